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


def trained(make_trainer, folder, is_balanced=True, **options):
    trainer, callback = make_trainer(folder, balance=None if is_balanced else {"method": "proportional"}, **options)
    heard = Heard()
    trainer.callback_handler.callbacks.insert(5, heard)  # where report_to puts its trackers
    trainer.train()
    assert trainer.state.log_history == heard.entries
    return trainer, callback


def of_trainer(history):
    keys = ("balance/", "loss/", "train_", "total_")
    return [{key: value for key, value in entry.items() if not key.startswith(keys)} for entry in history]


def test_each_step_has_one_entry_and_the_trainers_own_are_as_without_balancing(make_trainer):
    frozen = {"actor": {"learning_rate": 1e-300}}
    measured, _ = make_trainer("on", balance=frozen)
    measured.train()
    plain, _ = make_trainer("off", balance={"method": "proportional"})
    plain.train()
    history = measured.state.log_history
    # The trainer logs every third step; updates are made after every second.
    assert [entry["step"] for entry in history if "train_runtime" not in entry] == [2, 3, 4, 6, 8, 9, 10, 12]
    of_updates = [entry["step"] for entry in history if "balance/p/a" in entry]
    assert of_updates == [2, 4, 6, 8, 10, 12]
    assert all("loss/a" in entry for entry in history if "loss" in entry)
    own = [entry for entry in of_trainer(history) if set(entry) - {"step", "epoch"}]
    assert own == of_trainer(plain.state.log_history)[: len(own)]
    assert any("mean_token_accuracy" in entry for entry in own)


def test_trackers_are_given_what_the_history_holds(make_trainer):
    trained(make_trainer, "out")


@pytest.mark.parametrize("every", ["steps", "epoch"])
def test_an_update_at_a_step_that_is_logged_joins_its_entry(make_trainer, every):
    options = {"logging_steps": 2} if every == "steps" else {"logging_strategy": "epoch", "num_train_epochs": 2}
    trainer, _ = trained(make_trainer, "out", max_steps=16, **options)  # epochs of 8 steps
    entries = [entry for entry in trainer.state.log_history if "train_runtime" not in entry]
    steps = [entry["step"] for entry in entries]
    assert steps == [2, 4, 6, 8, 10, 12, 14, 16]
    joined = [entry["step"] for entry in entries if "loss" in entry and "balance/p/a" in entry]
    assert joined == (steps if every == "steps" else [8, 16])


def test_a_trainer_that_logs_nothing_stays_silent_and_the_ledger_has_all(make_trainer, tmp_path):
    trainer, _ = trained(make_trainer, "out", logging_strategy="no")
    assert [set(entry) & {"loss", "balance/p/a"} for entry in trainer.state.log_history] == [set()]  # the summary
    lines = (tmp_path / "out" / "balance.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 2, 4, 6, 8, 10, 12]


def test_entries_of_a_checkpoint_go_on_as_in_the_whole_run(make_trainer, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 4}
    whole, _ = make_trainer("out", **options)
    whole.train()
    again, _ = make_trainer("out", **options)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    steps = [entry["step"] for entry in whole.state.log_history]
    assert [entry["step"] for entry in again.state.log_history] == steps
