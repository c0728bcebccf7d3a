"""`kill -9` at any moment, then `--resume`: the same weights, ledger and metrics as without, bit for bit."""

import json
import random
from pathlib import Path

import pytest
import torch
import yaml
from killed_runs import results, run
from tiny_runs import tokenizer, write_rows  # noqa: F401 - a fixture
from transformers import LlamaConfig, LlamaForCausalLM

KILLED = -9
STEPS = 12


@pytest.fixture(scope="module")
def setup(tmp_path_factory, tokenizer):  # noqa: F811
    """A folder with a model that drops out, data and configurations; and the results of runs never interrupted."""
    folder = tmp_path_factory.mktemp("killed")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=264, eos_token_id=1, pad_token_id=1, attention_dropout=0.2, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_rows(folder / "a.jsonl", 40)
    write_rows(folder / "b.jsonl", 20, "another text")
    whole = {}

    def make(*, bf16=False, workers=0, accumulation=1, lora=False, lag=None):
        name = f"{'bf16' if bf16 else 'fp32'}-{workers}-{accumulation}-{'lora' if lora else 'full'}-{lag}"
        data = {
            "model": str(folder / "model"),
            "mixture": {"datasets": {"a": str(folder / "a.jsonl"), "b": str(folder / "b.jsonl")}},
            "difficulty": {"groups": 2},
            "balance": {
                "update_every": 2,
                "probes": 4,
                "probe_pool": 4,
                "actor": {"learning_rate": 3e-3},
                **({} if lag is None else {"update_lag": lag}),
            },
            "train": {
                "max_steps": STEPS,
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": accumulation,
                "dataloader_num_workers": workers,
                "learning_rate": 1e-2,
                "bf16": bf16,
                "save_strategy": "steps",
                "save_steps": 3,
                "save_total_limit": 1,
                "logging_steps": 2,
            },
            **({"lora": {"r": 4, "lora_dropout": 0.2, "target_modules": ["q_proj", "v_proj"]}} if lora else {}),
        }
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(data))
        return file

    def train(config, output, *words, kill=None):
        return run(["train", config, "--output", output, *words], folder / "cache", folder / "log", kill)

    def uninterrupted(config):
        if config not in whole:
            output = folder / f"whole-{config.stem}"
            assert train(config, output) == 0, (folder / "log").read_text()[-2000:]
            whole[config] = results(output)
        return whole[config]

    return make, train, uninterrupted, folder


def killed_and_resumed(setup, output, config, kills):
    _, train, uninterrupted, folder = setup
    words = []
    for kill in kills:
        assert train(config, output, *words, kill=kill) == KILLED, kill
        words = ["--resume"]
    assert train(config, output, "--resume") == 0, (folder / "log").read_text()[-2000:]
    assert_same(results(output), uninterrupted(config))


def assert_same(left, right):
    assert left[0] == right[0]
    assert left[1] == right[1]
    assert left[2].keys() == right[2].keys()
    for name in left[2]:
        assert left[2][name] == right[2][name], name


def test_the_policy_moves_and_dropout_matters(setup):
    ledger, _, _ = setup[2](setup[0]())
    assert len({json.dumps(record["global"]) for record in ledger}) == len(ledger) == STEPS // 2 + 1


@pytest.mark.parametrize(
    "kill", [("measuring", 4), ("half of the state", 2), ("half of a line", 4), ("last evaluation", 1)], ids=str
)
def test_a_killed_run_ends_as_if_it_had_not_been(setup, tmp_path, kill):
    killed_and_resumed(setup, tmp_path / "run", setup[0](), [kill])


@pytest.mark.slow
@pytest.mark.parametrize(
    "kill",
    [
        ("nothing trained yet", 1),
        ("forward", 13),
        ("backward", 2),
        ("backward", 11),
        ("optimizer step", 7),
        ("measuring", 1),
        ("measuring", 6),
        ("saving weights", 1),
        ("saving weights", 3),
        ("saving the optimizer", 2),
        ("saving random states", 2),
        ("before the state", 1),
        ("before the state", 4),
        ("half of the state", 1),
        ("half of the state", 3),
        ("rotating", 1),
        ("rotating", 2),
        ("half of a line", 1),
        ("half of a line", 5),
        ("before metrics", 1),
        ("before the report", 1),
    ],
    ids=str,
)
def test_a_run_killed_at_any_moment_ends_as_if_it_had_not_been(setup, tmp_path, kill):
    killed_and_resumed(setup, tmp_path / "run", setup[0](), [kill])


@pytest.mark.slow
def test_a_run_killed_again_and_again_gets_there(setup, tmp_path):
    kills = [("backward", 5), ("half of the state", 1), ("measuring", 2), ("half of a line", 1), ("rotating", 1)]
    killed_and_resumed(setup, tmp_path / "run", setup[0](), kills)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_every_way_to_train_survives_a_kill(setup, tmp_path, bf16, workers, accumulation, lora):
    config = setup[0](bf16=bf16, workers=workers, accumulation=accumulation, lora=lora)
    moment = random.Random(config.name).choice(
        [("backward", 7 * accumulation), ("measuring", 4), ("half of the state", 2)]
    )
    killed_and_resumed(setup, tmp_path / "run", config, [moment])


@pytest.mark.slow
def test_the_same_lag_gives_the_same_run_whatever_the_workers(setup, tmp_path):
    make, train, uninterrupted, _ = setup
    none, two = make(workers=0, lag=4), make(workers=2, lag=4)
    assert_same(uninterrupted(none), uninterrupted(two))
    # Begun with two workers, killed, and gone on with none.
    assert train(two, tmp_path / "run", kill=("backward", 8)) == KILLED
    assert train(two, tmp_path / "run", "--resume", "train.dataloader_num_workers=0") == 0
    assert_same(results(tmp_path / "run"), uninterrupted(two))


@pytest.mark.slow
def test_overwriting_killed_while_the_former_run_is_removed_goes_on_as_the_new_one(setup, tmp_path):
    make, train, uninterrupted, _ = setup
    config, output = make(), tmp_path / "run"
    assert train(config, output, "train.learning_rate=0.1") == 0
    assert train(config, output, "--overwrite", kill=("removing the former run", 1)) == KILLED
    assert train(config, output, "--resume") == 0
    assert_same(results(output), uninterrupted(config))
    assert not list(Path(output).glob(".former*"))
