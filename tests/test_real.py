"""The whole of it with the real SmolLM2-135M-Instruct on real rows, kept short."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from hbo.config.file import dump
from hbo.demo import demo_config


@pytest.mark.real
def test_a_real_model_learns_a_real_mixture_and_the_balancer_moves(tmp_path):
    config = demo_config(tmp_path / "run", steps=4)
    for name, entry in config.mixture.datasets.items():
        lines = Path(entry.path).read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines[:12]), encoding="utf-8")
    file = tmp_path / "config.yaml"
    file.write_text(dump(config), encoding="utf-8")
    paths = [f"mixture.datasets.{name}.path={tmp_path / name}.jsonl" for name in config.mixture.datasets]
    settings = ["balance.update_every=4", "balance.probes=4", "train.per_device_train_batch_size=2"]
    command = [sys.executable, "-m", "hbo", "train", str(file), *paths, *settings, "train.learning_rate=1e-4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    before = sum(score["nll"] for score in metrics["eval_before"].values()) / 4
    assert metrics["macro_nll"] < 0.95 * before
    records = [json.loads(line) for line in (run / "balance.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 4]
    assert records[-1]["global"] != records[0]["global"]
    assert set(records[0]["global"]) == {"general", "math", "finance", "medical"}
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    assert model.num_parameters() > 130_000_000
