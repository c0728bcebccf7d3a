"""Two real processes (gloo): under accelerate, sharded, in disagreement, on two hosts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from courses import assert_one_course, launch, records
from safetensors.torch import load_file
from tiny_runs import model_folder, tokenizer, write_rows  # noqa: F401 - fixtures
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples" / "distributed"
ACCELERATE = ["-m", "accelerate.commands.launch", "--config_file"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


@pytest.fixture
def config(tmp_path, model_folder):  # noqa: F811
    data = {
        "model": str(model_folder),
        "mixture": {
            "datasets": {
                "a": write_rows(tmp_path / "a.jsonl", 50),
                "b": write_rows(tmp_path / "b.jsonl", 22, "quite another text"),
            }
        },
        "difficulty": {"groups": 2},
        # Few tokens per batch of probes, so that both processes have several and not equally many.
        "balance": {"update_every": 3, "probes": 6, "probe_tokens": 150, "actor": {"learning_rate": 3e-3}},
        "train": {
            "max_steps": 9,
            "learning_rate": 1e-2,
            "bf16": False,
            "save_strategy": "steps",
            "save_steps": 3,
        },
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


def one_process(config, output, cache):
    words = ["train", config, "train.per_device_train_batch_size=8", "--output", output]
    launch("-m", "hbo", *words, cache=cache)
    return records(output)


@pytest.mark.slow
def test_accelerate_launch_with_the_documented_ddp_config(config, tmp_path):
    alone = one_process(config, tmp_path / "one", tmp_path / "cache")
    words = ["-m", "hbo", "train", config, "train.per_device_train_batch_size=4", "--output", tmp_path / "two"]
    launch(*ACCELERATE, EXAMPLES / "ddp.yaml", *words, cache=tmp_path / "cache")
    assert_one_course(alone, records(tmp_path / "two"))


@pytest.mark.slow
def test_a_model_sharded_by_fsdp2_balances_as_a_whole_one_saves_and_resumes(config, tmp_path):
    cache, two = tmp_path / "cache", tmp_path / "two"
    alone = one_process(config, tmp_path / "one", cache)
    words = ["train", config, "train.per_device_train_batch_size=4", "--output", two]
    fsdp = [*ACCELERATE, EXAMPLES / "fsdp2.yaml", HERE / "fsdp_on_cpu.py", *words]
    launch(*fsdp, cache=cache)
    assert (two / "checkpoint-6" / "pytorch_model_fsdp_0").is_dir()  # it was sharded indeed
    assert_one_course(alone, records(two))
    whole = load_file(two / "model" / "model.safetensors")
    for name, value in load_file(tmp_path / "one" / "model" / "model.safetensors").items():
        torch.testing.assert_close(whole[name], value, rtol=1e-3, atol=1e-5)
    AutoModelForCausalLM.from_pretrained(two / "model")
    ledger = records(two)
    for step in (6, 9):
        shutil.rmtree(two / f"checkpoint-{step}")
    launch(*fsdp, "--resume", cache=cache)
    for name, value in load_file(two / "model" / "model.safetensors").items():
        assert torch.equal(value, whole[name]), name
    assert records(two) == ledger


@pytest.mark.slow
def test_processes_that_disagree_are_stopped_with_one_sentence(config, tmp_path):
    words = ["train", config, "--output", tmp_path / "run"]
    done = launch(*TORCHRUN, HERE / "one_rank_differs.py", *words, cache=tmp_path / "cache", fails=True)
    said = " ".join(done.stderr.split())
    assert "error: the processes disagree about the sampling probabilities at step 3" in said
    assert [record["step"] for record in records(tmp_path / "run")] == [0]


def _can_make_hosts():
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    made = subprocess.run(["ip", "netns", "add", "hbo-probe"], capture_output=True).returncode == 0
    subprocess.run(["ip", "netns", "delete", "hbo-probe"], capture_output=True)
    return made


@pytest.mark.slow
@pytest.mark.skipif(not _can_make_hosts(), reason="needs root and `ip netns`")
def test_two_hosts_are_one_run(config, tmp_path):
    alone = one_process(config, tmp_path / "one", tmp_path / "cache")
    words = ["train", config, "train.per_device_train_batch_size=4", "--output", tmp_path / "two"]
    environment = {**os.environ, "PYTHON": sys.executable, "HBO_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = ["bash", str(EXAMPLES / "two_hosts.sh"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert_one_course(alone, records(tmp_path / "two"))
