import io
import json

import pytest
from rich.console import Console

from hbo.errors import DataError
from hbo.report.terminal import metrics_table, plan_notes, plan_title


def printed(metrics):
    console = Console(width=100, force_terminal=False, file=io.StringIO())
    console.print(metrics_table(metrics))
    return console.file.getvalue()


def cells(line):
    return [cell.strip() for cell in line.split("│")[2:6]]


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
    rows = {line.split()[1]: line for line in shown.splitlines() if "│" in line}
    assert cells(rows["math"]) == ["1,200", "8.00", "4.00", "-50.0%"]
    assert cells(rows["chat"]) == ["1,200", "2.00", "3.00", "+50.0%"]
    assert cells(rows["mean"]) == ["", "1.500", "1.100", "-26.7%"]


def test_accuracy_is_shown_where_rows_were_answered():
    right = {"math": {"accuracy": 0.5, "n": 8, "kind": "numeric"}}
    shown = printed({"eval": {"math": score(1.0, 4.0), "chat": score(1.2, 3.0)}, "accuracy": right})
    rows = {line.split()[1]: line.split("│")[6].strip() for line in shown.splitlines() if "│" in line}
    assert (rows["math"], rows["chat"]) == ("– → 50%", "–")
    assert "accuracy" not in printed({"eval": {"math": score(1.0, 4.0)}})


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
    "update_share": None, "scoring_share": None,
}  # fmt: skip


def test_what_a_plan_does_not_know_is_unknown():
    assert plan_title(PLAN) == "hbo: unknown steps of 8 rows, 8 groups (2 datasets × 4), unknown updates of 64 probes"
    (note,) = plan_notes(PLAN)
    assert note.endswith("updates unknown; scoring, once, unknown")
    notes = plan_notes({**PLAN, "update_share": 0.0154, "scoring_share": 1 / 6, "unread": ("b",), "tokenized": False})
    assert notes[0].endswith("updates at most 1.5%; scoring, once, at most 16.7%")
    assert notes[1].startswith("not read, since not on this machine: b;")
    assert notes[2].startswith("nothing was tokenised")
    assert plan_notes({**PLAN, "update_share": 0, "scoring_share": 0})[0].endswith("updates none; scoring, once, none")
