import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from tiny_training import token_rows
from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from hbo.folder.paths import last_checkpoint
from hbo.run.signals import StopOnSignal


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


class Interrupts(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("strategy", [SaveStrategy.BEST, SaveStrategy.STEPS])
def test_the_step_of_the_signal_is_saved_though_another_is_the_best(make_trainer, tmp_path, strategy):
    trainer, _ = make_trainer(
        max_steps=9,
        eval_steps=1,
        save_steps=1,
        save_total_limit=1,
        metric_for_best_model="loss",
        greater_is_better=True,
    )
    args = trainer.args
    args.eval_strategy, args.save_strategy, args.load_best_model_at_end = IntervalStrategy.STEPS, strategy, True
    trainer.eval_dataset = {"a": token_rows((21,))}
    stop = StopOnSignal(trainer)
    for callback in (Interrupts(), stop):
        trainer.add_callback(callback)
    trainer.train()
    assert stop.received == signal.SIGINT
    assert trainer.state.global_step == 3
    assert trainer.state.best_global_step < 3
    assert last_checkpoint(tmp_path / "out").name == "checkpoint-3"


class Puts(TrainerCallback):
    def __init__(self, file):
        self.file = file

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 2:
            self.file.touch()


def test_a_file_stops_a_run_that_no_signal_reaches(make_trainer, tmp_path):
    trainer, _ = make_trainer(max_steps=9)
    stop = StopOnSignal(trainer, tmp_path / "stop")
    for callback in (Puts(tmp_path / "stop"), stop):
        trainer.add_callback(callback)
    trainer.train()
    assert stop.received == signal.SIGTERM
    assert last_checkpoint(tmp_path / "out").name == "checkpoint-3"
    assert not (tmp_path / "stop").exists()
