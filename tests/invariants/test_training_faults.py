"""Losses, rewards and mixtures at their extremes, in whole runs."""

import json

import numpy as np
import pytest
import torch
from commands import refused
from tiny_runs import cache, config, model_folder, tokenizer, write_rows  # noqa: F401 - fixtures

from hbo.rewards.per_row import perplexity_ratio


def records(run):
    return [json.loads(line) for line in (run / "balance.jsonl").read_text().splitlines()]


def strict_json(file):
    def refuse(word):
        raise AssertionError(f"{file.name} holds {word}, which is no JSON")

    return json.loads(file.read_text(), parse_constant=refuse)


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_model_that_turns_nan_ends_its_run_and_says_so(hbo, config, tmp_path, monkeypatch, weight):  # noqa: F811
    from transformers import Trainer

    real = Trainer.training_step

    def spoil(self, model, *args, **kwargs):
        loss = real(self, model, *args, **kwargs)
        for parameter in model.parameters():
            parameter.grad.fill_(weight)
        return loss

    monkeypatch.setattr(Trainer, "training_step", spoil)
    done = hbo("train", config())
    assert done.returncode == 0, done.stderr
    assert "rewards were zero, negative or not finite" in done.stderr
    assert "warning: held-out loss after: 2 of 2 rows of dataset 'a' have a loss that is not" in done.stderr
    assert records(tmp_path / "run")[-1]["global"] == records(tmp_path / "run")[0]["global"]
    metrics = strict_json(tmp_path / "run" / "metrics.json")
    assert metrics["eval"] == {}
    assert metrics["macro_nll"] is None
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>") and 'id="figures"' in page
    assert 20_000 < len(page) < 1_000_000  # no library of charts is in it


def test_what_is_skipped_is_in_the_trainers_log(hbo, config, tmp_path, monkeypatch):  # noqa: F811
    def nothing(model, batch, **_):
        return (torch.full((len(batch["labels"]),), np.nan),) * 2

    monkeypatch.setattr("hbo.rewards.probe.gradient_norms_and_losses", nothing)
    assert hbo("train", config()).returncode == 0
    log = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    # Two updates of 2 datasets and 2 × 2 groups each.
    assert [entry["balance/skipped"] for entry in log if "balance/skipped" in entry] == [6, 12]


@pytest.mark.parametrize(
    ("loss", "reference", "expected"), [(1e4, 1.0, float("inf")), (1.0, 1e4, 0.0), (1e4, 1e4, 1.0)]
)
def test_a_ratio_of_perplexities_is_taken_before_they_overflow(loss, reference, expected):
    now, then = torch.tensor([loss], dtype=torch.float64), torch.tensor([reference], dtype=torch.float64)
    assert perplexity_ratio(None, None, loss=now, reference=then).tolist() == [expected]


@pytest.mark.parametrize("reference", [1e4, -1e4])
def test_a_reference_that_overflows_moves_nothing_and_is_counted(hbo, config, tmp_path, monkeypatch, reference):  # noqa: F811
    from hbo.rewards.probe import Probe

    def absurd(self, model, processes):
        self.reference = {int(row): reference for row in np.concatenate(self.pool)}

    monkeypatch.setattr(Probe, "measure_reference", absurd)
    done = hbo("train", config())
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "run")
    assert found[-1]["local"] == found[0]["local"]
    assert found[-1]["global"] != found[0]["global"]
    assert "8 rewards were zero" in done.stderr


@pytest.mark.parametrize("actor", ["softmax", "mlp", "tracking"])
def test_datasets_of_nothing_but_duplicates_are_balanced(hbo, config, tmp_path, actor):  # noqa: F811
    row = json.dumps({"prompt": "the same?", "completion": "yes"}) + "\n"
    (tmp_path / "same.jsonl").write_text(row * 30)
    file = config(mixture={"datasets": {"x": str(tmp_path / "same.jsonl"), "y": str(tmp_path / "same.jsonl")}})
    done = hbo("train", file, f"balance.actor.kind={actor}")
    assert done.returncode == 0, done.stderr
    assert "skipped" not in done.stderr
    last = records(tmp_path / "run")[-1]
    # Duplicates are alike, so their rewards are, and nothing has a reason to move.
    assert last["global"] == pytest.approx({"x": 0.5, "y": 0.5}, abs=1e-6)
    assert last["local"]["x"] == pytest.approx([0.5, 0.5], abs=0.04)


@pytest.mark.parametrize(
    ("rows", "changes"),
    [
        ([12], {}),
        ([12], {"difficulty": {"groups": 1}}),
        ([12, 12], {"difficulty": {"groups": 1}}),
        ([1], {"difficulty": {"groups": 1}, "mixture": {"eval_fraction": 0}}),
        ([2, 3], {"mixture": {"eval_fraction": 0}}),
        ([1, 3, 30], {"difficulty": {"groups": 4}}),
        ([3, 3], {"train": {"per_device_train_batch_size": 16}, "mixture": {"eval_fraction": 0}}),
    ],
    ids=[
        "one dataset",
        "one group of all",
        "one group each",
        "one row of all",
        "groups of one row",
        "fewer rows than groups",
        "a huge batch",
    ],
)
def test_the_smallest_mixtures_run(hbo, config, tmp_path, rows, changes):  # noqa: F811
    datasets = {f"d{k}": write_rows(tmp_path / f"d{k}.jsonl", count, f"set {k}") for k, count in enumerate(rows)}
    mixture = {"datasets": datasets, **changes.pop("mixture", {})}
    done = hbo("train", config(mixture=mixture, **changes))
    assert done.returncode == 0, done.stderr
    for record in records(tmp_path / "run"):
        assert sum(record["global"].values()) == pytest.approx(1)
        assert all(sum(q) == pytest.approx(1) for q in record["local"].values())
    assert hbo("replay", tmp_path / "run", "--step", "3").returncode == 0


@pytest.mark.parametrize(
    ("function", "told"),
    [(lambda model, batch, **_: 1.0, "gave float"), (lambda model, batch, loss, **_: loss[:1], "gave [1]"),
     (lambda model, batch: None, "failed (TypeError")],
)  # fmt: skip
def test_a_reward_function_that_is_wrong_is_one_sentence(hbo, config, monkeypatch, function, told):  # noqa: F811
    monkeypatch.setattr("hbo.rewards.per_row.mine", function, raising=False)
    refused(hbo("train", config(), "balance.global_reward=hbo.rewards.per_row:mine"), told, "the reward ")
