import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig
from tiny_training import MOVING, assert_same_weights, ledger, token_rows, weights

from hbo.core.stream import Stream
from hbo.errors import ConfigError

# The mixtures here are tiny on purpose; the warning has its own test.
pytestmark = pytest.mark.filterwarnings("ignore:dataset .* about to be seen:UserWarning")


def test_every_update_is_a_line_whose_probabilities_sum_to_one(make_trainer, tmp_path):
    trainer, _callback = make_trainer()
    trainer.train()
    records = ledger(tmp_path / "out")
    assert [record["step"] for record in records] == [0, 2, 4, 6, 8, 10, 12]
    for record in records:
        assert abs(sum(record["global"].values()) - 1) < 1e-12
        assert all(abs(sum(q) - 1) < 1e-12 for q in record["local"].values())
    assert records[0]["global"] == {"a": 21 / 31, "b": 10 / 31}
    assert records[-1]["global"] != records[0]["global"]
    assert records[-1]["local"] != records[0]["local"]
    assert records[0]["global_reward"] is None
    assert all(value > 0 for value in records[-1]["global_reward"].values())
    assert records[-1]["probe_examples"] == 8


def test_an_update_takes_effect_at_a_recorded_step(make_trainer, tmp_path):
    trainer, callback = make_trainer(rows=token_rows(sizes=(24, 12)), gradient_accumulation_steps=3)
    trainer.train()
    for record in ledger(tmp_path / "out")[1:]:
        assert record["start"] == (record["step"] + 1 + callback.balancing.lag) * 12


def test_drawn_counts_the_rows_of_the_steps_between_two_lines(make_trainer, tmp_path):
    trainer, _ = make_trainer()
    trainer.train()
    drawn = [sum(map(sum, record["drawn"].values())) for record in ledger(tmp_path / "out")]
    assert drawn == [0, 8, 8, 8, 8, 8, 8]


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_model_sees_exactly_the_stream(make_trainer, accumulation, workers):
    trainer, callback = make_trainer(
        gradient_accumulation_steps=accumulation, dataloader_num_workers=workers, max_steps=20, num_train_epochs=3
    )
    seen = []
    trainer.model.register_forward_pre_hook(
        lambda model, args, kwargs: seen.append(kwargs["input_ids"][:, :2].tolist()) if model.training else None,
        with_kwargs=True,
    )
    trainer.train()
    position = callback.balancing.schedule.position
    names = trainer.train_dataset["input_ids"][:]
    at = 0
    for step in range(20):
        rows = callback.balancer.stream.rows(position(step), position(step + 1))
        batches = -(-len(rows) // 4)
        used = [tuple(row) for batch in seen[at : at + batches] for row in batch]
        assert sorted(used) == sorted(tuple(names[row][:2]) for row in rows.tolist()), step
        at += batches
    assert at == len(seen)


def test_the_rows_of_a_step_are_sorted_by_length(make_trainer):
    trainer, _callback = make_trainer(rows=token_rows(sizes=(24, 12)), gradient_accumulation_steps=3)
    widths = []
    trainer.model.register_forward_pre_hook(
        lambda model, args, kwargs: widths.append(kwargs["input_ids"].shape[1]) if model.training else None,
        with_kwargs=True,
    )
    trainer.train()
    steps = [widths[i : i + 3] for i in range(0, len(widths), 3)]
    assert all(step == sorted(step) for step in steps)
    assert any(step[0] < step[-1] for step in steps)


def test_measuring_leaves_no_trace_on_training(make_trainer):
    frozen = {"actor": {"learning_rate": 1e-300}}
    measured, callback = make_trainer("on", balance=frozen, dropout=0.2)
    measured.train()
    plain, _ = make_trainer("off", balance={"method": "proportional"}, dropout=0.2)
    plain.train()
    assert len(callback.balancer.ledger) == 7
    assert_same_weights(weights(measured), weights(plain))


def test_workers_make_no_difference_at_the_same_lag(make_trainer, tmp_path):
    runs = []
    for workers in (0, 2):
        trainer, _ = make_trainer(f"w{workers}", balance={"update_lag": 5}, dataloader_num_workers=workers)
        trainer.train()
        runs.append((weights(trainer), ledger(tmp_path / f"w{workers}")))
    assert_same_weights(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]


def test_a_lag_that_the_loader_cannot_keep_is_refused(make_trainer):
    with pytest.raises(ConfigError, match="set it to 4 or more"):
        make_trainer(balance={"update_lag": 1}, dataloader_num_workers=2)


@pytest.mark.parametrize(
    ("workers", "accumulation", "peft", "bf16"),
    [
        (0, 1, False, False),
        (0, 3, False, False),
        (2, 1, False, False),
        (0, 1, True, False),
        (0, 1, False, True),
        (0, 3, True, True),
    ],
)
def test_resume_is_bitwise(make_trainer, tmp_path, workers, accumulation, peft, bf16):
    options = {
        "bf16": bf16,
        "use_cpu": True,
        "dataloader_num_workers": workers,
        "gradient_accumulation_steps": accumulation,
        "save_strategy": "steps",
        "save_steps": 5,
        "dropout": 0.1,
        "peft_config": LoraConfig(r=2, task_type="CAUSAL_LM") if peft else None,
    }
    whole, balance = make_trainer("whole", **copy.deepcopy(options))
    whole.train()
    expected = weights(whole), ledger(tmp_path / "whole")
    again, callback = make_trainer("whole", **copy.deepcopy(options))
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-5"))
    assert_same_weights(weights(again), expected[0])
    assert ledger(tmp_path / "whole") == expected[1]
    rows = balance.balancer.stream.rows(0, balance.balancing.schedule.position(12))
    assert callback.balancing.tokens == balance.balancing.tokens == balance.balancing.groups.length_N[rows].sum()


def test_resuming_draws_nothing_again(make_trainer, tmp_path, monkeypatch):
    trainer, _ = make_trainer(save_strategy="steps", save_steps=6)
    trainer.train()
    again, _callback = make_trainer(save_strategy="steps", save_steps=6)
    asked = []

    def spy(name):
        original = getattr(Stream, name)

        def spied(self, start, *rest):
            asked.append(start)
            return original(self, start, *rest)

        monkeypatch.setattr(Stream, name, spied)

    # Every draw, be it for rows or for counts, goes through `_cells`.
    spy("rows")
    spy("_cells")
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-6"))
    assert min(asked) == 24


@pytest.mark.trl  # older releases of SFTTrainer show no losses of tokens
def test_the_log_has_losses_and_probabilities_per_dataset(make_trainer):
    trainer, _ = make_trainer(logging_steps=2)
    trainer.train()
    keys = set().union(*trainer.state.log_history)
    for name in ("a", "b"):
        assert {f"loss/{name}", f"loss/{name}/g1", f"balance/p/{name}", f"balance/p/{name}/g2"} <= keys
        assert {f"balance/reward/{name}", f"balance/reward/{name}/g1"} <= keys
        assert {f"balance/drawn/{name}", f"balance/epochs/{name}"} <= keys
    assert "balance/seconds" in keys


@pytest.mark.trl  # older releases of SFTTrainer show no losses of tokens
def test_losses_per_dataset_add_up_to_the_training_loss(make_trainer):
    rows = token_rows(sizes=(21,), levels=1)
    trainer, _ = make_trainer(rows=rows, logging_steps=1, balance={"method": "proportional"})
    trainer.train()
    losses = {row["step"]: row["loss"] for row in trainer.state.log_history if "loss" in row}
    ours = {row["step"]: row["loss/a"] for row in trainer.state.log_history if "loss/a" in row}
    assert len(ours) == 12
    for step, loss in ours.items():
        assert loss == pytest.approx(losses[step], rel=1e-4)


def test_a_last_step_with_fewer_batches_is_drawn_to_size(make_trainer):
    # 31 rows in batches of 4 are 8 batches: two steps of 3 and one of 2 per epoch.
    trainer, callback = make_trainer(gradient_accumulation_steps=3, max_steps=7)
    trainer.train()
    assert callback.balancing.schedule.rows_per_epoch == 32
    assert callback.balancing.schedule.last_rows == 8
    assert callback.drawn_so_far(7).sum() == 2 * 32 + 12


def test_a_batch_larger_than_the_mixture_trains(make_trainer):
    trainer, callback = make_trainer(
        rows=token_rows(sizes=(3, 2), levels=1), per_device_train_batch_size=8, max_steps=3
    )
    trainer.train()
    assert callback.drawn_so_far(3).sum() == 24


def test_a_dataset_that_is_repeated_often_is_named_once(make_trainer):
    trainer, _ = make_trainer(rows=token_rows(sizes=(30, 2), levels=1), max_steps=12)
    with pytest.warns(UserWarning, match="dataset 'b'") as told:
        trainer.train()
    assert len([warning for warning in told if "about to be seen" in str(warning.message)]) == 1


def test_one_dataset_in_one_group_trains(make_trainer, tmp_path):
    trainer, _ = make_trainer(rows=token_rows(sizes=(9,), levels=1))
    trainer.train()
    assert ledger(tmp_path / "out")[-1]["global"] == {"a": 1.0}


def test_a_loss_that_is_nan_moves_nothing(make_trainer, tmp_path, monkeypatch):
    trainer, _callback = make_trainer()
    monkeypatch.setattr("hbo.rewards.probe.gradient_norms_and_losses", lambda m, b, **_: (nan(b), nan(b)))
    with pytest.warns(UserWarning, match="so they were ignored"):
        trainer.train()
    records = ledger(tmp_path / "out")
    assert records[-1]["global"] == records[0]["global"]
    assert records[-1]["global_reward"] == {"a": None, "b": None}


def nan(batch):
    return torch.full((len(batch["labels"]),), np.nan)


def test_defaults_of_these_tests_really_move_the_policy():
    assert MOVING["actor"]["learning_rate"] > 1e-3
