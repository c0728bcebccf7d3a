"""DeepSpeed ZeRO, two real processes: the same rows, rewards and weights as one process without it."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from courses import assert_one_course, launch, records
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples" / "distributed"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs deepspeed (pip install deepspeed)"),
]


@pytest.fixture
def config(tmp_path, model_folder, write_rows):
    data = {
        "model": str(model_folder),
        "mixture": {"datasets": {"a": str(write_rows("a", 50)), "b": str(write_rows("b", 22))}},
        "difficulty": {"groups": 2},
        # Few tokens per batch of probes, so that the processes have several, not equally many, of unequal size.
        "balance": {"update_every": 3, "probes": 9, "probe_tokens": 200, "actor": {"learning_rate": 3e-3}},
        "train": {
            "max_steps": 9,
            "learning_rate": 1e-2,
            "bf16": False,
            "gradient_accumulation_steps": 2,
            "save_strategy": "steps",
            "save_steps": 3,
        },
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_run_under_zero_is_the_run_of_one_process_and_resumes(config, tmp_path, stage):
    one, two = tmp_path / "one", tmp_path / "two"
    launch("-m", "hbo", "train", config, "train.per_device_train_batch_size=4", "--output", one)
    accelerate = ("-m", "accelerate.commands.launch", "--config_file", EXAMPLES / f"deepspeed_zero{stage}.yaml")
    words = (HERE / "deepspeed_on_cpu.py", "train", config, "train.per_device_train_batch_size=2", "--output", two)
    said = launch(*accelerate, *words).stderr
    assert (two / "checkpoint-6" / "latest").is_file()  # DeepSpeed saved it indeed
    assert "one row at a time" not in " ".join(said.split())
    course = records(two)
    assert_one_course(records(one), course)
    weights = load_file(two / "model" / "model.safetensors")
    for name, value in load_file(one / "model" / "model.safetensors").items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)
    AutoModelForCausalLM.from_pretrained(two / "model")

    for step in (6, 9):
        shutil.rmtree(two / f"checkpoint-{step}")
    launch(*accelerate, *words, "--resume")
    assert records(two) == course
    for name, value in load_file(two / "model" / "model.safetensors").items():
        assert torch.equal(value, weights[name]), name
