import json

import pytest
from transformers import TrainerCallback

pytestmark = pytest.mark.filterwarnings("ignore:dataset .* about to be seen:UserWarning")


class Heard(TrainerCallback):
    """What a tracker is given."""

    def __init__(self):
        self.entries = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.entries.append({**logs, "step": state.global_step})


def trained(make_trainer, folder="out", **options):
    trainer, _ = make_trainer(folder, **options)
    heard = Heard()
    trainer.callback_handler.callbacks.insert(5, heard)  # where report_to puts its trackers
    trainer.train()
    return trainer, heard.entries


def of_trainer(history):
    keys = ("balance/", "loss/", "train_", "total_")
    return [{key: value for key, value in entry.items() if not key.startswith(keys)} for entry in history]


@pytest.mark.trl  # SFTTrainer's own metrics among the entries
def test_the_history_has_the_entries_that_it_has_without_balancing(make_trainer):
    # The trainer logs every third step; updates are made after every second.
    frozen = {"actor": {"learning_rate": 1e-300}}
    measured, _ = trained(make_trainer, "on", balance=frozen)
    plain, _ = trained(make_trainer, "off", balance={"method": "proportional"})
    assert of_trainer(measured.state.log_history) == of_trainer(plain.state.log_history)
    entries = [entry for entry in measured.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in entries] == [3, 6, 9, 12]
    assert all({"loss/a", "balance/p/a", "mean_token_accuracy"} <= set(entry) for entry in entries)
    drawn = [entry["balance/drawn/a"] + entry["balance/drawn/b"] for entry in entries]
    assert drawn == [8, 24, 32, 48]  # of the latest update: after steps 2, 6, 8 and 12


@pytest.mark.trl  # SFTTrainer's own metrics among the entries
def test_trackers_hear_of_each_update_at_its_step(make_trainer, tmp_path):
    trainer, heard = trained(make_trainer)
    entries = [entry for entry in heard if "train_runtime" not in entry]
    assert [entry["step"] for entry in entries] == [2, 3, 4, 6, 8, 9, 10, 12]
    assert [entry for entry in trainer.state.log_history if "loss" in entry] == [e for e in entries if "loss" in e]
    shown = [entry["balance/p/a"] for entry in entries if entry["step"] % 2 == 0]
    lines = [json.loads(line) for line in (tmp_path / "out" / "balance.jsonl").read_text().splitlines()]
    assert shown == [line["global"]["a"] for line in lines[1:]]
    assert [entry["step"] for entry in entries if "mean_token_accuracy" in entry] == [3, 6, 9, 12]


@pytest.mark.parametrize("every", ["steps", "epoch"])
def test_an_update_at_a_step_that_is_logged_joins_its_entry(make_trainer, every):
    options = {"logging_steps": 2} if every == "steps" else {"logging_strategy": "epoch", "num_train_epochs": 2}
    trainer, heard = trained(make_trainer, max_steps=16, **options)  # epochs of 8 steps
    entries = [entry for entry in heard if "train_runtime" not in entry]
    steps = [2, 4, 6, 8, 10, 12, 14, 16]
    assert [entry["step"] for entry in entries] == steps
    joined = [entry for entry in entries if "loss" in entry and "balance/p/a" in entry]
    assert [entry["step"] for entry in joined] == (steps if every == "steps" else [8, 16])
    assert [entry for entry in trainer.state.log_history if "loss" in entry] == joined


def test_a_trainer_that_logs_nothing_stays_silent_and_the_ledger_has_all(make_trainer, tmp_path):
    trainer, heard = trained(make_trainer, logging_strategy="no")
    for entries in (trainer.state.log_history, heard):
        assert [set(entry) & {"loss", "balance/p/a"} for entry in entries] == [set()]  # the summary
    lines = (tmp_path / "out" / "balance.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 2, 4, 6, 8, 10, 12]


def test_entries_of_a_checkpoint_go_on_as_in_the_whole_run(make_trainer, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 4}
    whole, _ = trained(make_trainer, **options)
    again, _ = make_trainer("out", **options)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    steps = [entry["step"] for entry in whole.state.log_history]
    assert [entry["step"] for entry in again.state.log_history] == steps
