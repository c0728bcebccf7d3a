"""Nothing that could run code is loaded unless the user writes so."""

import contextlib
import json
import pickle
import shutil
import sys

import pytest
import torch
from commands import refused
from safetensors.torch import load_file
from tiny_runs import cache, config, model_folder, tokenizer  # noqa: F401 - fixtures

from hbo.errors import ModelError
from hbo.scoring.models import load_model, load_tokenizer


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def copy(model_folder, tmp_path):  # noqa: F811
    return shutil.copytree(model_folder, tmp_path / "model")


def test_a_pickled_model_is_refused_unread(copy, tmp_path):
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    with pytest.raises(ModelError, match="pickle"):
        load_model(str(copy))
    with pytest.raises(ModelError, match="can't be loaded"):
        load_model(str(copy), pickles=True)  # torch reads tensors only
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_read_when_asked_for(hbo, config, copy, tmp_path):  # noqa: F811
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    file = config(model=str(copy))
    refused(hbo("train", file), "pickle", "train.model_init_kwargs.use_safetensors: false")
    done = hbo("train", file, "train.model_init_kwargs.use_safetensors=false")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "run" / "model").glob("*.safetensors"))
    scores = tmp_path / "scores.parquet"
    done = hbo("score", file, "train.model_init_kwargs.use_safetensors=false", "--output", scores)
    assert done.returncode == 0, done.stderr
    assert scores.is_file()


@pytest.mark.parametrize("lora", [None, {"r": 2, "target_modules": ["q_proj"]}], ids=["full", "lora"])
def test_a_pickled_checkpoint_is_refused_unread(hbo, config, tmp_path, lora):  # noqa: F811
    file = config(lora=lora) if lora else config()
    assert hbo("train", file).returncode == 0
    checkpoint = tmp_path / "run" / "checkpoint-4"
    (weights,) = checkpoint.glob("*model.safetensors")
    trap = checkpoint / ("adapter_model.bin" if lora else "pytorch_model.bin")
    trap.write_bytes(pickle.dumps({name: Trap(tmp_path / "ran") for name in load_file(weights)}))
    weights.unlink()
    refused(hbo("train", file, "--resume"), "checkpoint-4", "pickle")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_code_in_a_checkpoints_optimizer_is_never_run(hbo, config, tmp_path, name):  # noqa: F811
    assert hbo("train", config()).returncode == 0
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    torch.save({"state": Trap(tmp_path / "ran")}, tmp_path / "run" / "checkpoint-2" / name)
    refused(hbo("train", config(), "--resume"), "checkpoint", "holds code")
    assert not (tmp_path / "ran").exists()


def test_code_that_a_model_brings_is_not_run_unless_the_user_writes_so(copy, tmp_path, hbo, config):  # noqa: F811
    settings = json.loads((copy / "config.json").read_text())
    settings |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Model"}}
    (copy / "config.json").write_text(json.dumps(settings))
    (copy / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\nclass Model: pass\n")
    with pytest.raises(ModelError, match="can't be loaded"):
        load_model(str(copy))
    refused(hbo("train", config(model=str(copy))), str(copy))
    assert not (tmp_path / "ran").exists()


def test_code_that_a_tokenizer_brings_is_not_run(copy, tmp_path):
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": [None, "mine.Mine"]}}
    (copy / "tokenizer_config.json").write_text(json.dumps(settings))
    (copy / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    with contextlib.suppress(ModelError):
        load_tokenizer(str(copy))
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def with_code(copy, tmp_path, monkeypatch):
    """A model that works only with the code it brings, which leaves a file behind."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", sys.path.copy())
    settings = json.loads((copy / "config.json").read_text())
    settings |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Model"}}
    (copy / "config.json").write_text(json.dumps(settings))
    (copy / "mine.py").write_text(
        f"from transformers import LlamaConfig, LlamaForCausalLM\nopen({str(tmp_path / 'ran')!r}, 'w')\n"
        "class Mine(LlamaConfig):\n    model_type = 'mine'\n"
        "class Model(LlamaForCausalLM):\n    config_class = Mine\n"
    )
    return copy


@pytest.mark.parametrize("command", ["train", "score"])
def test_the_scorers_code_runs_if_and_only_if_the_user_writes_so(with_code, command, hbo, config, tmp_path):  # noqa: F811
    file = config(difficulty={"groups": 2, "model": str(with_code)})
    written = [] if command == "train" else ["--output", tmp_path / "scores.parquet"]
    refused(hbo(command, file, *written), str(with_code))
    assert not (tmp_path / "ran").exists()
    done = hbo(command, file, "train.trust_remote_code=true", *written)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ran").exists()


def test_a_chat_template_reaches_nothing_outside_its_sandbox(copy, tmp_path, hbo, config):  # noqa: F811
    (copy / "chat_template.jinja").write_text(
        "{{ ''.__class__.__mro__[1].__subclasses__() }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    refused(hbo("train", config(model=str(copy))), "template")
