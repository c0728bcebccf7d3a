"""Packages that aren't there are named before any row is read."""

import json

import pytest
from commands import refused
from torch import nn
from transformers import LlamaConfig, Trainer, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.training_args import OptimizerNames

from hbo.errors import ConfigError
from hbo.run.packages import NEEDS, check_packages, check_stored

MISSING = [
    ("train.optim=adamw_8bit", "train.optim: adamw_8bit needs bitsandbytes", "pip install bitsandbytes"),
    ("train.optim=galore_adamw", "galore-torch"),
    ("train.report_to=wandb", "train.report_to: wandb needs wandb", "pip install wandb"),
    ("train.report_to=[tensorboard, mlflow]", "pip install mlflow"),
    ("train.use_liger_kernel=true", "train.use_liger_kernel: true needs liger-kernel", "pip install liger-kernel"),
    ("train.deepspeed={zero_optimization: {stage: 2}}", "pip install deepspeed"),
    ("train.model_init_kwargs={attn_implementation: flash_attention_2}", "pip install flash-attn"),
    ("train.model_init_kwargs={attn_implementation: kernels-community/vllm-flash-attn3}", "pip install kernels"),
    ("train.model_init_kwargs={quantization_config: {load_in_4bit: true}}", "quantization_config", "bitsandbytes"),
    ("train.model_init_kwargs={quantization_config: {quant_method: hqq}}", "quantization_config", "hqq"),
]


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """Nothing of the table is installed, whatever is on this machine."""
    for need in NEEDS:
        if need.values != ("tensorboard",):
            monkeypatch.setitem(need.__dict__, "is_there", lambda: False)


@pytest.mark.parametrize(("override", "fragments"), [(override, rest) for override, *rest in MISSING])
@pytest.mark.parametrize("command", ["train", "check"])
def test_what_is_missing_is_told_before_the_model_is_sought(hbo, config, command, override, fragments):
    said = refused(hbo(command, config(model="./nowhere"), override), *fragments)
    assert "nowhere" not in said


def test_a_grid_is_refused_before_its_first_run(hbo, config, tmp_path):
    words = ["--methods", "hbo", "--output", tmp_path / "grid", "--vary", "train.optim=adamw_torch,lion_8bit"]
    refused(hbo("compare", config(), *words), "lion_8bit needs bitsandbytes")
    assert not (tmp_path / "grid").exists()


def test_what_does_not_train_needs_nothing(hbo, config, tmp_path):
    file = config(train={"report_to": "wandb"})
    assert hbo("score", file, "--output", tmp_path / "scores.parquet").returncode == 0
    done = hbo("train", file, "--dry-run")  # perhaps for another machine
    assert done.returncode == 0
    assert "a run on this machine would stop at once: train.report_to: wandb" in done.stdout


@pytest.mark.parametrize("name", list(OptimizerNames))
def test_every_optimizer_is_torchs_own_or_in_the_table(name):
    """A release of transformers that adds one from another package fails here."""
    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments(optim=name, optim_target_modules="all-linear"), layer())
    except (ImportError, ValueError):
        with pytest.raises(ConfigError, match=f"train.optim: {name.value} needs"):
            check_packages({"optim": name.value})
    else:
        check_packages({"optim": name.value})


def test_every_tracker_is_in_the_table():
    known = [value for need in NEEDS if need.key == "report_to" for value in need.values]
    assert sorted(known) == sorted(INTEGRATION_TO_CALLBACK)


def test_a_value_that_needs_nothing_passes():
    check_packages({})
    check_packages({"report_to": "none", "use_liger_kernel": False, "deepspeed": None, "optim": "adamw_torch_fused"})
    check_packages({"model_init_kwargs": {"attn_implementation": "sdpa", "use_kernels": False}})


def test_a_model_stored_in_a_format_of_another_package_is_refused_by_its_name(hbo, config, model_folder, tmp_path):
    folder = tmp_path / "quantized"
    folder.mkdir()
    for file in model_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    stored = json.loads((folder / "config.json").read_text())
    stored["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(stored))
    said = refused(
        hbo("train", config(model=str(folder), mixture={"datasets": {"a": "/no/rows.jsonl"}})), "bitsandbytes"
    )
    assert f"model '{folder}'" in said
    check_stored("sound", LlamaConfig())


def arguments(**train):
    return TrainingArguments("out", use_cpu=True, **{"report_to": "none", **train})


def layer():
    return nn.Sequential(nn.Linear(1, 1))
