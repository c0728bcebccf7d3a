"""Whole runs of `hbo train` on a random model of two layers, in this process: what several tests here start from."""

import json

import pytest
import torch
import yaml
from byte_models import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

TRAIN = {
    "max_steps": 4,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "bf16": False,
    "save_strategy": "steps",
    "save_steps": 2,
    "logging_steps": 2,
}
BALANCE = {"update_every": 2, "probes": 4, "probe_pool": 4, "actor": {"learning_rate": 1e-2}}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HBO_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def tokenizer():
    return byte_tokenizer()


def tiny_model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=264, eos_token_id=1, pad_token_id=1, bos_token_id=None, **sizes, **heads)
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("tiny_model")
    tiny_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(file, count, text="row"):
    rows = [{"prompt": f"{text} {i}?", "completion": f"answer {i * 7 % 10}"} for i in range(count)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture
def config(tmp_path, model_folder):
    """Writes a configuration and returns its path: `config(output=…, balance={…})`."""

    def make(**changes):
        datasets = {"a": write_rows(tmp_path / "a.jsonl", 40), "b": write_rows(tmp_path / "b.jsonl", 20, "other")}
        data = {
            "model": str(model_folder),
            "output": str(tmp_path / "run"),
            "mixture": {"datasets": datasets},
            "difficulty": {"groups": 2},
            "balance": BALANCE,
            "train": TRAIN,
        }
        for key, value in changes.items():
            data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(data, allow_unicode=True))
        return file

    return make
