"""What a dry run knows without a network."""

import json

import pytest

from hbo.check.plan import plan_of
from hbo.config.file import parse


def run_of(datasets, **sections):
    mixture = {"datasets": datasets, "eval_fraction": 0.1, **sections.pop("mixture", {})}
    train = {"per_device_train_batch_size": 4, "num_train_epochs": 2, **sections.pop("train", {})}
    return parse({"model": "owner/model", "mixture": mixture, "train": train, **sections})


def planned(datasets, **sections):
    return plan_of(run_of(datasets, **sections), offline=True)


HUB = {"a": {"path": "x/a", "max_rows": 300}, "b": {"path": "x/b", "max_rows": 100}}


def test_stated_sizes_give_the_whole_plan():
    plan = planned(HUB, balance={"update_every": 20})
    assert (plan["rows"], plan["held_out"]) == ({"a": 270, "b": 90}, {"a": 30, "b": 10})
    assert (plan["prior"], plan["epochs"]) == ({"a": 0.75, "b": 0.25}, {"a": 2, "b": 2})
    assert (plan["steps"], plan["updates"], plan["probes_per_update"]) == (180, 9, 64)
    assert plan["unread"] == ("a", "b")


def test_a_limit_on_passes_is_in_the_passes_that_are_expected():
    even = {"balance": {"method": "uniform"}, "train": {"max_steps": 90}}  # 360 rows of 270 and 90
    free = planned(HUB, **even)["epochs"]
    assert (free["a"], free["b"]) == pytest.approx((180 / 270, 2))
    held = planned(HUB, **even, mixture={"max_passes": 1})["epochs"]
    assert (held["a"], held["b"]) == pytest.approx((1, 1))


def test_local_rows_are_counted_and_those_on_the_hub_are_not_sought(write_rows):
    plan = planned({**HUB, "here": {"path": str(write_rows("here", 40))}}, mixture={"train_fraction": 0.5})
    assert plan["rows"] == {"a": 135, "b": 45, "here": 18}
    assert plan["unread"] == ("a", "b")
    assert not plan["tokenized"]


def test_a_dry_run_counts_local_rows_when_only_the_model_is_elsewhere(hbo, config):
    file = config()
    whole = hbo("train", file, "--dry-run").stdout
    counted = hbo("train", file, "--dry-run", "model=owner/model").stdout
    rows = [line.split()[:4] for line in whole.splitlines() if line.startswith(("a ", "b "))]
    assert len(rows) == 2  # no row of these is cut off, so that their number is known without tokens
    assert rows == [line.split()[:4] for line in counted.splitlines() if line.startswith(("a ", "b "))]
    assert "nothing was tokenised" in counted
    assert "tokenised" not in whole


@pytest.mark.parametrize(
    ("sections", "known"),
    [
        ({}, {}),
        ({"train": {"max_steps": 50}}, {"steps", "update_share"}),
        ({"balance": {"method": "uniform"}}, {"prior", "updates"}),
        ({"balance": {"method": "uniform"}, "train": {"max_steps": 50}}, {"steps", "prior", "update_share"}),
    ],
)
def test_what_depends_on_an_unknown_size_is_unknown(hbo, sections, known):
    plan = planned({"a": {"path": "x/a"}, "b": HUB["b"]}, **sections)
    assert plan["rows"] == {"a": None, "b": 90}
    assert plan["datasets"] == 2
    assert (plan["steps"] is not None) == ("steps" in known)
    assert (None not in plan["prior"].values()) == ("prior" in known)
    assert (plan["update_share"] is not None) == ("update_share" in known)
    assert plan["epochs"] == {"a": None, "b": plan["epochs"]["b"]}
    assert plan["scoring_share"] is None


def test_weights_for_all_give_the_prior_without_sizes():
    plan = planned({"a": {"path": "x/a", "weight": 3}, "b": {"path": "x/b", "weight": 1}})
    assert plan["prior"] == {"a": 0.75, "b": 0.25}


def test_the_parts_of_a_dataset_on_the_hub_are_unknown(tmp_path, hbo):
    file = tmp_path / "run.json"
    datasets = {"a": {"path": "x/a", "group_by": "kind", "max_rows": 100}, "b": HUB["b"]}
    file.write_text(json.dumps({"model": "owner/model", "mixture": {"datasets": datasets}}))
    done = hbo("train", file, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "hbo: unknown steps of 8 rows, unknown groups, unknown updates of unknown probes" in done.stdout
    assert "a/*" in done.stdout


def test_nothing_is_known_of_packed_rows_before_they_are_tokenised():
    plan = planned(HUB, train={"packing": True})
    assert (plan["steps"], plan["update_share"]) == (None, None)
    plan = planned(HUB, train={"packing": True, "max_steps": 40})
    assert (plan["steps"], plan["update_share"], plan["epochs"]) == (40, None, {"a": None, "b": None})


def test_a_fixed_batch_makes_the_steps():
    plan = planned(HUB, global_batch_size=64)
    assert (plan["batch"], plan["steps"]) == (64, 12)
