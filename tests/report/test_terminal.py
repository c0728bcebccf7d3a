import io
import json
import re

import pytest
from rich.console import Console

from hbo.data.inspect_rows import Seen
from hbo.errors import DataError
from hbo.report.columns import Columns
from hbo.report.terminal import metrics_table, plan_costs, plan_gaps, plan_reading, plan_table, plan_title


def printed(table, width=100):
    console = Console(width=width, force_terminal=False, file=io.StringIO())
    console.print(table if isinstance(table, Columns) else metrics_table(table))
    return console.file.getvalue()


def cells(line):
    return re.split(r" {2,}", line)[1:5]


def score(nll, perplexity):
    return {"nll": nll, "perplexity": perplexity, "n": 1200}


def test_perplexity_before_and_after_and_the_macro_loss_are_shown():
    shown = printed(
        {
            "eval_before": {"math": score(2.0, 8.0), "chat": score(1.0, 2.0)},
            "eval": {"math": score(1.0, 4.0), "chat": score(1.2, 3.0)},
            "macro_nll": 1.1,
        }
    )
    rows = {line.split()[0]: line for line in shown.splitlines()}
    assert cells(rows["math"]) == ["1,200", "8.00", "4.00", "-50.0%"]
    assert cells(rows["chat"]) == ["1,200", "2.00", "3.00", "+50.0%"]
    assert cells(rows["mean"]) == ["1.500", "1.100", "-26.7%"]


def test_accuracy_is_shown_where_rows_were_answered():
    right = {"math": {"accuracy": 0.5, "n": 8, "kind": "numeric"}}
    shown = printed({"eval": {"math": score(1.0, 4.0), "chat": score(1.2, 3.0)}, "accuracy": right})
    rows = {line.split()[0]: re.split(r" {2,}", line)[-1] for line in shown.splitlines()}
    assert (rows["math"], rows["chat"]) == ("– → 4 of 8", "–")
    assert "right answers" not in printed({"eval": {"math": score(1.0, 4.0)}})


def test_a_name_in_square_brackets_is_no_markup():
    assert "[red]math[/red]" in printed({"eval": {"[red]math[/red]": score(1.0, 2.7)}})


def test_what_was_not_measured_is_a_dash(run_folder):
    shown = printed({"eval": {"math": score(1.0, float("inf"))}})
    assert "–" in shown
    assert "inf" in shown


def test_the_metrics_of_a_run_fit(run_folder):
    shown = printed(json.loads((run_folder / "metrics.json").read_text()))
    assert all(name in shown for name in ("general", "math", "finance", "medical"))


def test_broken_metrics_are_one_sentence():
    with pytest.raises(DataError, match="'eval' must be a mapping"):
        metrics_table({"eval": [1]})


PLAN = {
    "method": "hbo", "rows": {"a": 90, "b": None}, "packed_rows": None, "packing": False, "held_out": {"a": 10},
    "prior": {"a": None, "b": None}, "epochs": {"a": None, "b": None}, "unread": (), "tokenized": True,
    "datasets": 2, "groups": 4, "batch": 8, "steps": None, "updates": None, "probes_per_update": 64,
    "update_share": None, "scoring_share": None, "steps_per_pass": {}, "epoch": None, "tokens": {}, "max_length": None,
    "notes": [],
}  # fmt: skip


def test_what_a_plan_does_not_know_is_unknown():
    assert plan_title(PLAN) == "hbo: unknown steps of 8 rows, 8 groups (2 datasets × 4), unknown updates of 64 probes"
    assert plan_costs(PLAN).endswith("updates unknown; scoring the rows once: unknown")
    assert plan_gaps(PLAN) == []
    assert plan_costs({**PLAN, "update_share": 0.0154, "scoring_share": 1 / 6}).endswith(
        "updates at most 1.5%; scoring the rows once: at most 16.7%"
    )
    unread, untokenised = plan_gaps({**PLAN, "unread": ("b",), "tokenized": False})
    assert unread.text.startswith("not read, since not on this machine: b;")
    assert untokenised.text.startswith("nothing was tokenised")
    assert plan_costs({**PLAN, "update_share": 0, "scoring_share": 0}).endswith("none; scoring the rows once: none")


def test_a_plan_has_lengths_and_passes_in_its_columns():
    plan = PLAN | {
        "steps_per_pass": {"a": 14.2}, "epochs": {"a": 3.0, "b": None}, "prior": {"a": 0.75, "b": None}, "epoch": 80.0,
        "tokens": {"a": Seen(72, 80, 0.507, 0, 0, 0)}, "max_length": 80,
    }  # fmt: skip
    rows = {line.split()[0]: line.split()[1:] for line in printed(plan_table(plan)).splitlines()}
    assert rows["a"] == ["90", "10", "75.0%", "14", "3.00", "72", "80", "50.7%"]
    assert rows["b"][-3:] == ["–", "–", "–"]
    assert "one pass over the whole mixture takes 80 steps" in plan_reading(plan)
