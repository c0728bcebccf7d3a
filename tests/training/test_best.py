"""Options that want one number, where each dataset is an evaluation set of its own."""

import json

import pytest
import torch
from commands import refused
from safetensors.torch import load_file
from tiny_training import token_rows
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import IntervalStrategy

EVERY_STEP = {
    "max_steps": 3,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "load_best_model_at_end": True,
}


def evaluations(run):
    """Step → what the trainer logged of its evaluations."""
    found = {}
    for entry in json.loads((run / "trainer_state.json").read_text())["log_history"]:
        if any(key.startswith("eval_") for key in entry):
            found[entry["step"]] = {**entry, **found.get(entry["step"], {})}
    return found


def test_the_best_of_several_sets_is_that_of_their_mean_loss(hbo, config, tmp_path):
    # A step that is far too long makes everything worse, so the best isn't the last.
    done = hbo("train", config(train={**EVERY_STEP, "learning_rate": 2.0, "lr_scheduler_type": "constant"}))
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    state = json.loads((run / "checkpoint-3" / "trainer_state.json").read_text())
    found = evaluations(run)
    for step in (1, 2):  # the third was logged again, of the best model
        each = [found[step][f"eval_{name}_loss"] for name in "ab"]
        assert found[step]["eval_loss"] == pytest.approx(sum(each) / 2, rel=1e-6)
    losses = [found[step]["eval_loss"] for step in (1, 2, 3)]
    best = losses.index(min(losses)) + 1
    assert state["best_global_step"] == best
    assert state["best_metric"] == min(losses)
    assert best != 3, losses
    model, saved = (load_file(run / name / "model.safetensors") for name in ("model", f"checkpoint-{best}"))
    assert all(torch.equal(model[name], saved[name]) for name in model)


@pytest.mark.parametrize(
    ("train", "metric"),
    [
        ({"metric_for_best_model": "eval_b_loss", "greater_is_better": True}, "eval_b_loss"),
        ({"metric_for_best_model": "b_loss", "greater_is_better": True}, "eval_b_loss"),
        ({"save_strategy": "best", "metric_for_best_model": "eval_loss"}, "eval_loss"),
    ],
)
def test_a_metric_may_be_named(hbo, config, tmp_path, train, metric):
    done = hbo("train", config(difficulty={"groups": 1}, train={**EVERY_STEP, **train, "max_steps": 2}))
    assert done.returncode == 0, done.stderr
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    values = [found[metric] for found in evaluations(tmp_path / "run").values()][:2]
    pick = max if train.get("greater_is_better") else min
    assert state["best_metric"] == pytest.approx(pick(values), rel=1e-6)


def test_the_rate_falls_when_the_mean_does_not(hbo, config, tmp_path):
    train = {
        "max_steps": 4,
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5},
        "learning_rate": 4.0,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "no",
        "logging_steps": 1,
    }
    done = hbo("train", config(difficulty={"groups": 1}, train=train))
    assert done.returncode == 0, done.stderr
    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    rates = [entry["learning_rate"] for entry in history if "learning_rate" in entry]
    means = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    expected, best = [4.0], float("inf")
    for mean in means[:3]:
        expected.append(expected[-1] if mean < best * (1 - 1e-4) else expected[-1] / 2)
        best = min(best, mean)
    assert rates == pytest.approx(expected)
    assert rates[-1] < 4.0


def with_sets(trainer):
    rows = token_rows()
    trainer.eval_dataset = {name: rows.filter(lambda row, n=name: row["hbo_dataset"] == n) for name in "ab"}
    return trainer


def test_early_stopping_hears_of_the_mean(make_trainer):
    """In a user's own trainer too, wherever the callback stands."""
    trainer, _ = make_trainer(max_steps=9, eval_steps=1, metric_for_best_model="eval_loss", greater_is_better=True)
    trainer.args.eval_strategy = IntervalStrategy.STEPS
    patience = EarlyStoppingCallback(early_stopping_patience=2)
    with_sets(trainer).callback_handler.callbacks.insert(3, patience)  # as if given when the trainer was made
    trainer.train()
    means = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert means == sorted(means, reverse=True)  # each lower, which isn't wanted here
    assert trainer.state.global_step == len(means) == 3
    assert trainer.state.best_metric == means[0]


def test_accuracies_are_means_too(make_trainer):
    trainer = with_sets(make_trainer(max_steps=1)[0])
    trainer.model.eval()
    found = trainer.evaluate()
    logged = [entry for entry in trainer.state.log_history if "eval_mean_token_accuracy" in entry]
    each = [entry["eval_mean_token_accuracy"] for entry in logged]
    assert len(set(each)) == 2
    assert found["eval_mean_token_accuracy"] == pytest.approx(sum(each) / 2)
    assert found["eval_num_tokens"] == logged[-1]["eval_num_tokens"]
    assert found["eval_loss"] == pytest.approx((found["eval_a_loss"] + found["eval_b_loss"]) / 2)
    one = trainer.evaluate(token_rows((21,)))  # a set of the caller's, of which the trainer says what it did
    assert "eval_a_loss" not in one
    assert one["eval_loss"] == pytest.approx(found["eval_a_loss"])


@pytest.mark.parametrize(
    ("train", "fragments"),
    [
        (
            {"eval_strategy": "steps", "metric_for_best_model": "eval_c_loss"},
            ["eval_c_loss", "evaluation doesn't produce", "eval_loss (the mean", "eval_a_loss, eval_b_loss"],
        ),
        ({"eval_strategy": "steps", "save_strategy": "best"}, ["needs train.metric_for_best_model"]),
        ({"save_strategy": "best", "metric_for_best_model": "eval_loss"}, ["set train.eval_strategy too"]),
    ],
)
@pytest.mark.parametrize("command", ["train", "check"])
def test_a_number_that_no_evaluation_gives_is_refused_before_scoring(hbo, config, command, train, fragments):
    done = hbo(command, config(train=train))
    refused(done, *fragments)
    assert "difficulty" not in done.stderr


def test_without_held_out_rows_there_is_nothing_to_choose_by(hbo, config):
    file = config(mixture={"eval_fraction": 0.0}, train={"eval_strategy": "steps", "eval_steps": 4})
    refused(hbo("train", file, "train.load_best_model_at_end=true"), "metric_for_best_model is loss", "eval_fraction")
    done = hbo("check", file)
    assert done.returncode == 0
    assert "nothing is evaluated" in done.stdout
