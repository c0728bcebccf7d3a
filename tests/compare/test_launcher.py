"""What stands before a run's command, however the user has written it."""

import shutil
import sys

import pytest

from hbo.compare.launcher import launcher_of
from hbo.errors import ConfigError

HBO = ["hbo", "train", "a b.yaml"]
MODULE = [sys.executable, "-m", *HBO]


@pytest.fixture(autouse=True)
def every_command_is_there(monkeypatch, tmp_path):
    """Empty programs by these names."""
    for name in (
        "torchrun",
        "accelerate",
        "accelerate-launch",
        "deepspeed",
        "srun",
        "ray",
        "env",
        "nice",
        "bash",
        "python",
    ):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    monkeypatch.delenv("PET_MASTER_PORT", raising=False)
    assert shutil.which("srun")


@pytest.mark.parametrize(
    ("prefix", "command"),
    [
        ("torchrun --nproc-per-node 2 -m", ["torchrun", "--nproc-per-node", "2", "-m", *HBO]),
        ("torchrun --nproc-per-node 2", ["torchrun", "--nproc-per-node", "2", "-m", *HBO]),
        (
            "accelerate launch --config_file '8 gpus.yaml' -m",
            ["accelerate", "launch", "--config_file", "8 gpus.yaml", "-m", *HBO],
        ),
        ("accelerate launch", ["accelerate", "launch", "-m", *HBO]),
        ("accelerate-launch --num_processes 2", ["accelerate-launch", "--num_processes", "2", "-m", *HBO]),
        ("python -m accelerate.commands.launch", ["python", "-m", "accelerate.commands.launch", "-m", *HBO]),
        ("bash -c 'module load cuda; exec \"$@\"' run", ["bash", "-c", 'module load cuda; exec "$@"', "run", *MODULE]),
        ('bash -lc \'exec "$0" "$@"\'', ["bash", "-lc", 'exec "$0" "$@"', *MODULE]),
        ("bash setup.sh -c 4", ["bash", "setup.sh", "-c", "4", *MODULE]),
        ("srun -J deepspeed python -m", ["srun", "-J", "deepspeed", "python", "-m", *HBO]),
        ("srun -N1", ["srun", "-N1", *MODULE]),
        ("srun -N2 torchrun --nnodes 2", ["srun", "-N2", "torchrun", "--nnodes", "2", "-m", *HBO]),
        ("ray job submit --", ["ray", "job", "submit", "--", *MODULE]),
        ("ray job submit -- python3 -m", ["ray", "job", "submit", "--", "python3", "-m", *HBO]),
        ("nice -n 5", ["nice", "-n", "5", *MODULE]),
    ],
)
def test_a_run_is_a_module_or_a_command_as_the_prefix_needs_it(prefix, command):
    assert launcher_of(prefix).command(HBO[1:]) == command


def test_launchers_beside_each_other_use_ports_of_their_own(monkeypatch):
    first, second = (launcher_of("torchrun -m").environment()["PET_MASTER_PORT"] for _ in range(2))
    assert first != second
    beside = launcher_of("accelerate launch --num_processes 2").command(["train"], beside_others=True)
    assert beside == ["accelerate", "launch", "--main_process_port=0", "--num_processes", "2", "-m", "hbo", "train"]
    short = launcher_of("accelerate-launch --num_processes 2").command(["train"], beside_others=True)
    assert short == ["accelerate-launch", "--main_process_port=0", "--num_processes", "2", "-m", "hbo", "train"]
    own = launcher_of("accelerate launch --main-process-port 29600 -m")
    assert own.command(["train"], beside_others=True) == [*own.words, "hbo", "train"]
    monkeypatch.setenv("PET_MASTER_PORT", "29600")
    assert launcher_of("torchrun -m").environment() == {}


def test_deepspeed_gets_a_port_of_its_own_and_adds_no_option_to_the_command():
    commands = [launcher_of("deepspeed --bind_cores_to_rank", jobs=2).command(["train"]) for _ in range(2)]
    for program, local, port, *others in commands:
        assert (program, local, others) == (
            "deepspeed",
            "--no_local_rank",
            ["--bind_cores_to_rank", "--module", "hbo", "train"],
        )
        assert 0 < int(port.removeprefix("--master_port=")) < 2**16
    assert commands[0][2] != commands[1][2]
    own = "deepspeed --no_local_rank --num_gpus 2 --master_port 29600 --module"
    assert launcher_of(own.replace("--no_local_rank ", "")).command(["train"]) == [*own.split(), "hbo", "train"]
    module = launcher_of("python -m deepspeed.launcher.runner --master_port=29600").command(["train"])
    assert module[3:] == ["--no_local_rank", "--master_port=29600", "--module", "hbo", "train"]


@pytest.mark.parametrize(
    "chosen", ["--num_gpus 2", "--num_gpus=2", "--include localhost:0", "-i localhost:0", "--exclude localhost:1"]
)
def test_deepspeed_that_would_give_all_runs_the_same_gpus_is_refused(chosen):
    assert launcher_of(f"deepspeed {chosen}", jobs=1)
    assert launcher_of(f"srun -N1 deepspeed {chosen}", jobs=2)
    with pytest.raises(ConfigError, match="--launcher deepspeed -.*the 2 runs at once would share them; leave it out"):
        launcher_of(f"deepspeed {chosen}", jobs=2)


@pytest.mark.parametrize("prefix", ["bash -c 'module load cuda'", "bash -c 'exec \"$@\"'", "srun -N1 bash -lc true x"])
def test_a_script_of_a_shell_that_would_not_start_the_run_is_refused(prefix):
    with pytest.raises(ConfigError, match="the script doesn't run hbo train.*bash -c '… \"\\$@\"' run"):
        launcher_of(prefix)


def test_what_finds_a_machine_is_known():
    assert launcher_of("env A=1 srun -N1").finds_a_machine
    assert not launcher_of("torchrun -m").finds_a_machine


@pytest.mark.parametrize(
    ("prefix", "said"), [("torchrun '-m", "close its quotes"), (" ", "is empty"), ("torchrum -m", "no such command")]
)
def test_what_cannot_be_started_is_refused_in_a_sentence(prefix, said):
    with pytest.raises(ConfigError, match=said):
        launcher_of(prefix)
