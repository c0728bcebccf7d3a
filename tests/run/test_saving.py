"""Whoever loads a model tuned on a base tokenizer finds in it how to prompt it, token by token as in training."""

import json
import shutil

import pytest
import torch
import yaml
from byte_models import byte_model, byte_tokenizer
from safetensors.torch import load_file
from tokenizers import processors
from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

from hbo.data.mixture import build_mixture


@pytest.fixture
def base(tmp_path):
    """A model whose tokenizer has no chat template and puts BOS before every text."""
    folder = byte_model(tmp_path / "base", vocab_size=259)
    tokenizer = byte_tokenizer(None)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    (folder / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(folder)
    return folder


def trained(hbo, model, tmp_path, *rows):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 10))
    config = {
        "model": str(model),
        "output": str(tmp_path / "run"),
        "mixture": {"datasets": {"a": str(tmp_path / "a.jsonl")}},
        "difficulty": {"groups": 1},
        "balance": {"method": "proportional"},
        "train": {"max_steps": 1, "per_device_train_batch_size": 2, "bf16": False, "report_to": "none"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    done = hbo("train", tmp_path / "config.yaml")
    assert done.returncode == 0, done.stderr
    return tmp_path / "run" / "model"


def test_the_template_of_training_is_saved_with_the_tokenizer(hbo, base, tmp_path):
    row = {"prompt": "2 + 2?", "completion": "4"}
    saved = trained(hbo, base, tmp_path, row)
    own, tokenizer = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(saved)
    asked = [{"role": "user", "content": "2 + 2?"}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=True)["input_ids"]
    assert tokenizer.decode(prompt) == "<s>User: 2 + 2?\n\nAssistant:"
    (learned,) = build_mixture({"a": str(one_row(tmp_path, row))}, tokenizer=own)
    assert learned["input_ids"][: len(prompt)] == prompt
    assert learned["labels"] == [-100] * len(prompt) + own(" 4<|im_end|>", add_special_tokens=False)["input_ids"]
    (again,) = build_mixture({"a": str(one_row(tmp_path, row))}, tokenizer=tokenizer)
    assert (again["input_ids"], again["labels"]) == (learned["input_ids"], learned["labels"])
    card = (saved / "README.md").read_text()
    assert "```text\n<s>User: What is 2 + 2?\n\nAssistant:\n```" in card


def one_row(tmp_path, row):
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps(row) + "\n")
    return file


def test_a_tokenizer_of_plain_text_is_saved_as_it_was(hbo, base, tmp_path):
    saved = trained(hbo, base, tmp_path, {"text": "one two three"})
    assert AutoTokenizer.from_pretrained(saved).chat_template is None
    assert "Prompts" not in (saved / "README.md").read_text()


def test_a_template_of_its_own_is_kept(hbo, tmp_path):
    model = byte_model(tmp_path / "model")
    saved = trained(hbo, model, tmp_path, {"prompt": "q", "completion": "a"})
    template = AutoTokenizer.from_pretrained(model).chat_template
    assert AutoTokenizer.from_pretrained(saved).chat_template == template
    assert "Prompts" not in (saved / "README.md").read_text()


@pytest.fixture
def experts(tmp_path, tokenizer, write_rows):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2}
    shape_of_all = MixtralConfig(vocab_size=320, num_hidden_layers=2, num_local_experts=4, pad_token_id=1, **shape)
    MixtralForCausalLM(shape_of_all).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    data = {
        "model": str(tmp_path / "model"),
        "output": str(tmp_path / "run"),
        "mixture": {"datasets": {name: {"path": str(write_rows(name, 24))} for name in "ab"}},
        "difficulty": {"groups": 1},
        "balance": {"update_every": 2, "probes": 2},
        "train": {
            "max_steps": 4,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "bf16": False,
            "save_steps": 2,
            "report_to": "none",
        },
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


def test_a_mixture_of_experts_resumes_with_the_experts_that_were_saved(hbo, experts, tmp_path):
    run = tmp_path / "run"
    assert hbo("train", experts).returncode == 0
    whole = load_file(run / "model/model.safetensors")
    assert any("experts.3.w1" in name for name in whole)  # saved under other names than the model's own
    shutil.rmtree(run / "checkpoint-4")
    shutil.rmtree(run / "model")
    assert hbo("train", experts, "--resume").returncode == 0
    resumed = load_file(run / "model/model.safetensors")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
