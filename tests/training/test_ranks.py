"""Two real processes (gloo) against one: the same draws, the same probabilities."""

import json
import os
import subprocess
import sys

import pytest
import yaml


def launch(config, output, processes, batch):
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"),
        *("-m", "hbo", "train", str(config), f"train.per_device_train_batch_size={batch}", "--output", str(output)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (output / "balance.jsonl").read_text().splitlines()]


def test_ranks_draw_one_stream_and_hold_one_policy(tmp_path, model_folder, write_rows):
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "model": str(model_folder),
                "mixture": {"datasets": {"a": str(write_rows("a", 50)), "b": str(write_rows("b", 22))}},
                "difficulty": {"groups": 2},
                "balance": {"update_every": 3, "probes": 4, "actor": {"learning_rate": 3e-3}},
                "train": {"max_steps": 9, "learning_rate": 1e-2, "bf16": False, "max_grad_norm": 1.0},
            }
        )
    )
    one = launch(config, tmp_path / "one", processes=1, batch=4)
    two = launch(config, tmp_path / "two", processes=2, batch=2)
    assert [record["step"] for record in two] == [0, 3, 6, 9]
    for left, right in zip(one, two, strict=True):
        assert left["drawn"] == right["drawn"]
        assert left["start"] == right["start"]
        assert left["probe_examples"] == right["probe_examples"]
        for name in ("a", "b"):
            assert left["global"][name] == pytest.approx(right["global"][name], rel=1e-4)
            assert left["local"][name] == pytest.approx(right["local"][name], rel=1e-4)
            if left["global_reward"] is not None:
                assert left["global_reward"][name] == pytest.approx(right["global_reward"][name], rel=1e-3)
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")]
    assert metrics[0]["tokens"] == metrics[1]["tokens"]
    assert metrics[0]["macro_nll"] == pytest.approx(metrics[1]["macro_nll"], rel=1e-4)
