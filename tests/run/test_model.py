"""What `train:` says of the model reaches it or is refused, and rows are compared with what the model can be given."""

import json

import pytest
import torch
import yaml
from byte_models import CHATML, byte_model, byte_tokenizer
from commands import refused

from hbo.config import RunConfig
from hbo.errors import HBOError
from hbo.run.arguments import training_arguments
from hbo.run.model import load_weights


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_what_transformers_is_to_be_told_of_the_model_reaches_it(implementation, model_folder, tmp_path):
    options = {"attn_implementation": implementation, "dtype": "bfloat16"}
    config = RunConfig(
        model=str(model_folder),
        output=str(tmp_path),
        mixture={"datasets": {"a": "a.jsonl"}},
        train={"bf16": False, "model_init_kwargs": options},
    )
    model = load_weights(str(model_folder), training_arguments(config))
    assert model.config._attn_implementation == implementation
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "words"),
    [({"no_such_option": 1}, "no_such_option"), ({"trust_remote_code": True}, "train.trust_remote_code")],
)
def test_options_of_the_model_that_mean_nothing_are_refused(options, words, model_folder, tmp_path):
    train = {"bf16": False, "model_init_kwargs": options}
    mixture = {"datasets": {"a": "a.jsonl"}}
    config = RunConfig(model=str(model_folder), output=str(tmp_path), mixture=mixture, train=train)
    with pytest.raises(HBOError, match=words):
        load_weights(str(model_folder), training_arguments(config))


LONG, SHORT = "x" * 300, "y"


@pytest.fixture
def written(tmp_path):
    """A configuration of one dataset, of which 3 of 20 rows are longer than 64 tokens."""

    def write(model, **changes):
        rows = [{"prompt": "q", "completion": LONG if i in (4, 9, 15) else SHORT} for i in range(20)]
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = {
            "model": str(model),
            "output": str(tmp_path / "run"),
            "mixture": {"datasets": {"a": str(tmp_path / "a.jsonl")}, "eval_fraction": 0.1},
            "difficulty": {"groups": 1},
            "balance": {"method": "proportional"},
            "train": {"max_steps": 1, "per_device_train_batch_size": 20, "bf16": False, "report_to": "none"},
        }
        for key, value in changes.items():
            config[key] = {**config[key], **value}
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(config))
        return file

    return write


def lengths(done):
    """Tokens of the middle row of dataset `a`, and of its longest."""
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("a ")]
    return row[-3:-1]


@pytest.mark.parametrize(
    ("kind", "positions"), [("gpt2", {"n_positions": 64}), ("llama", {"max_position_embeddings": 64})]
)
def test_rows_longer_than_the_model_has_positions_are_cut_there_and_counted(hbo, written, tmp_path, kind, positions):
    file = written(byte_model(tmp_path / "model", kind, **positions))
    told = "has 64 positions, so longer rows are cut there: 3 of dataset 'a'; set train.max_length to 64 or less"
    done = hbo("check", file)
    assert done.returncode == 0 and told in done.stdout, done.stdout
    assert lengths(done) == ["23", "64"]
    done = hbo("train", file)
    assert done.returncode == 0 and told in done.stderr, done.stderr


def test_what_is_shorter_than_the_positions_needs_no_word(hbo, written, tmp_path):
    done = hbo("check", written(byte_model(tmp_path / "model", "gpt2", n_positions=512)))
    assert done.returncode == 0 and "positions" not in done.stdout


def test_a_rotary_model_may_be_asked_to_learn_positions_beyond_its_own(hbo, written, tmp_path):
    model = byte_model(tmp_path / "model", max_position_embeddings=64)
    done = hbo("check", written(model, train={"model_init_kwargs": {"max_position_embeddings": 512}}))
    assert done.returncode == 0 and "positions" not in done.stdout
    assert lengths(done) == ["23", "322"]


def test_the_rows_of_a_separate_scorer_are_compared_with_it(hbo, written, tmp_path):
    model = byte_model(tmp_path / "model")
    scorer = byte_model(tmp_path / "scorer", "gpt2", n_positions=64)
    file = written(model, difficulty={"groups": 2, "model": str(scorer)})
    for command in (("check", file), ("score", file, "--output", tmp_path / "scores.parquet")):
        done = hbo(*command)
        assert done.returncode == 0, done.stderr
        assert f"model '{scorer}' has 64 positions" in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["check", "train", "score"])
def test_a_token_without_an_embedding_is_refused_before_anything_is_computed(hbo, written, tmp_path, command):
    model = byte_model(tmp_path / "model", vocab_size=258)
    grown = byte_tokenizer(CHATML.replace("<|im_start|>", "<|turn|>"))
    grown.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    grown.save_pretrained(model)
    sentence = refused(hbo(command, written(model)), "holds the token '<|turn|>' with id 258", "have 258 rows")
    assert "resize_token_embeddings" in sentence


def test_a_pad_token_without_an_embedding_is_not_padded_with(hbo, written, tmp_path):
    model = byte_model(tmp_path / "model", vocab_size=258)
    grown = byte_tokenizer()
    grown.add_special_tokens({"pad_token": "[PAD]"})
    grown.save_pretrained(model)
    done = hbo("train", written(model))
    assert done.returncode == 0, done.stderr
    assert "the pad token '[PAD]' has id 258, but the model's embeddings have 258 rows" in done.stderr
