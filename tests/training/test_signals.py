import json
import signal
import subprocess
import sys
import time

import pytest
import yaml


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_saves_a_checkpoint_from_which_the_run_goes_on(tmp_path, model_folder, write_rows, number, code):
    run = tmp_path / "run"
    config = tmp_path / "config.yaml"
    data = {
        "model": str(model_folder),
        "output": str(run),
        "mixture": {"datasets": {"a": str(write_rows("a", 40)), "b": str(write_rows("b", 20))}},
        "difficulty": {"groups": 1},
        "balance": {"update_every": 2, "probes": 2},
        "train": {"max_steps": 100000, "bf16": False, "save_strategy": "no", "lr_scheduler_type": "constant"},
    }
    config.write_text(yaml.safe_dump(data))
    command = [sys.executable, "-m", "hbo", "train", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (run / "balance.jsonl").exists():
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert "--resume" in errors
    checkpoints = list(run.glob("checkpoint-*"))
    assert len(checkpoints) == 1
    assert checkpoints[0].name in errors.replace("\n", "")
    step = int(checkpoints[0].name.removeprefix("checkpoint-"))
    command = [*command, "--resume", f"train.max_steps={step + 4}"]
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 0
    assert json.loads((run / "metrics.json").read_text())["steps"] == step + 4
