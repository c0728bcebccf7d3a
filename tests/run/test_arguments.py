"""What the trainer is given where a key is left out or set by another."""

import json

import pytest
import torch
from commands import refused

from hbo.config import RunConfig
from hbo.errors import ConfigError
from hbo.run.arguments import batches_per_step, training_arguments


@pytest.mark.parametrize(
    ("native", "given", "bf16"),
    [
        (False, {}, False),
        (False, {"bf16": True}, True),
        (False, {"use_cpu": True, "fp16": False}, False),
        (True, {}, True),
    ],
)
def test_bf16_is_the_default_only_where_a_cpu_multiplies_in_it(monkeypatch, tmp_path, native, given, bf16):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    mixture = {"datasets": {"a": "a.jsonl"}}
    config = RunConfig(model="m", output=str(tmp_path), mixture=mixture, train=given)
    assert training_arguments(config).bf16 is bf16


def test_dropping_rows_of_packed_epochs_is_refused(tmp_path):
    config = RunConfig(
        model="m",
        output=str(tmp_path),
        mixture={"datasets": {"a": "a.jsonl"}},
        difficulty={"drop_easiest": 0.3},
        train={"packing": True},
    )
    with pytest.raises(ConfigError, match="set train.max_steps"):
        training_arguments(config)


def test_a_fixed_batch_is_met_with_any_number_of_processes():
    assert [batches_per_step(64, 4, processes) for processes in (1, 2, 8, 16)] == [16, 8, 2, 1]
    with pytest.raises(ConfigError, match="isn't a multiple of 3 processes times .* = 4; change one"):
        batches_per_step(64, 4, 3)


def test_a_run_with_a_fixed_batch_has_it(hbo, config, tmp_path):
    done = hbo("train", config(global_batch_size=8))
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "run" / "balance.jsonl").read_text().splitlines()]
    assert [sum(map(sum, record["drawn"].values())) for record in records] == [0, 32, 32]  # 4 steps each
    rows = hbo("replay", tmp_path / "run", "--step", 3).stdout.splitlines()
    assert len(rows) == 8
    refused(hbo("train", config(global_batch_size=8), "--resume", "global_batch_size=4"), "global_batch_size")
