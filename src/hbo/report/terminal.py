"""What the command line prints as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from hbo.core.prior import MANY_PASSES
from hbo.folder.benchmarks import Evaluation, Measure
from hbo.folder.metrics import Metrics, Score
from hbo.report.words import PAPER_NAMES
from hbo.text import visible


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Perplexity of the held-out rows per dataset before and after training, and the macro NLL.

    `metrics` is what `metrics.json` holds.

    Raises:
        DataError: A value has the wrong type.

    Example:
        >>> metrics_table({"eval": {"math": {"nll": 0.0, "perplexity": 1.0, "n": 5}}}).row_count
        2
    """
    found = Metrics.checked(dict(metrics), "metrics.json")
    was_asked = bool(found.right or found.right_before)
    columns = ["rows", "before", "after", "change", *(["accuracy"] if was_asked else [])]
    table = _by_dataset(columns, "Held-out perplexity")
    for name in dict.fromkeys([*found.after, *found.before]):
        before, after = found.before.get(name), found.after.get(name)
        scores = [score.perplexity if score else None for score in (before, after)]
        cells: list[str | Text] = [_rows(after or before), *(_number(s, 2) for s in scores), _change(*scores)]
        table.add_row(_name(name), *cells, *([_accuracy(found, name)] if was_asked else []))
    table.add_section()
    macro = (found.macro_before, found.macro_nll)
    table.add_row("mean NLL over datasets (macro)", "", *(_number(value, 3) for value in macro), _change(*macro))
    return table


def quantiles_table(spread: Sequence[Any], metric: str) -> Table:
    """How a difficulty metric is spread over each dataset's rows.

    Args:
        spread: `hbo.scoring.scores.Quantiles`, one per dataset.
        metric: What was scored.
    """
    columns = ["rows", "scored", "min", "25%", "50%", "75%", "max", "IFD ≥ 1"]
    table = _by_dataset(columns, f"Difficulty ({metric})")
    for q in spread:
        values = (_number(value, 3) for value in (q.min, q.q25, q.q50, q.q75, q.max))
        suspect = "–" if math.isnan(q.suspect) else f"{q.suspect:.1%}"
        table.add_row(_name(q.dataset), str(q.n), str(q.scored), *values, suspect)
    return table


def evaluation_table(found: Evaluation) -> Table:
    """Accuracy on benchmarks: per task with its languages, and the paper's means."""
    table = Table(title="Accuracy in percent", title_justify="left")
    table.add_column("task", no_wrap=True)
    for column in ("accuracy", "± error", "languages"):
        table.add_column(column, justify="left" if column == "languages" else "right")
    for task, measure in found.tasks.items():
        per_language = (f"{each} {100 * m.accuracy:.1f}" for each, m in found.languages[task].items())
        table.add_row(visible(task), *_percent(measure), ", ".join(per_language))
    if found.averages:
        table.add_section()
    for key, mean in found.averages.items():
        table.add_row(PAPER_NAMES.get(key, visible(key)), *_percent(mean), "")
    return table


def plan_title(plan: Mapping[str, Any]) -> str:
    """What a run would do, in a line."""
    kind = "packed rows" if plan["packing"] else "rows"
    datasets, levels = plan["datasets"], plan["groups"]
    groups = "unknown groups" if datasets is None else f"{datasets * levels} groups ({datasets} datasets × {levels})"
    return (
        f"{plan['method']}: {_count(plan['steps'])} steps of {plan['batch']} {kind}, {groups}, "
        f"{_count(plan['updates'])} updates of {_count(plan['probes_per_update'])} probes"
    )


def plan_table(plan: Mapping[str, Any]) -> Table:
    """The datasets of a run, with prior and expected passes."""
    packed = plan["packed_rows"]
    packed_column = [] if packed is None else ["packed, about"]
    table = _by_dataset(["train rows", *packed_column, "held out", "prior", "passes under the prior"])
    for name, rows in plan["rows"].items():
        prior, passes = plan["prior"][name], plan["epochs"][name]
        table.add_row(
            _name(name),
            _count(rows),
            *([] if packed is None else [_count(packed[name])]),
            _count(plan["held_out"].get(name, 0)),
            "unknown" if prior is None else f"{prior:.4f}",
            _passes(passes),
        )
    return table


def plan_notes(plan: Mapping[str, Any]) -> list[str]:
    """What stands below the table: the cost that is to be expected, and what was not read."""
    updates, scoring = _share(plan["update_share"]), _share(plan["scoring_share"])
    notes = [f"expected overhead, in operations over those of training: updates {updates}; scoring, once, {scoring}"]
    for key in ("outlook", "seen", "memory"):
        notes += map(visible, plan.get(key, ()))
    if plan["unread"]:
        names = ", ".join(visible(name) for name in plan["unread"])
        notes.append(f"not read, since not on this machine: {names}; their rows are the most that max_rows allows")
    if not plan["tokenized"]:
        notes.append("nothing was tokenised; rows that max_length leaves without a response are counted too")
    return notes


def _by_dataset(columns: Sequence[str], title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("dataset", overflow="ellipsis", no_wrap=True, max_width=40)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _share(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"at most {value:.1%}" if value else "none"


def _passes(value: float | None) -> Text | str:
    if value is None:
        return "unknown"
    return Text(f"{value:.2f}", style="bold red" if value > MANY_PASSES - 0.5 else "")


def _count(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _name(dataset: str) -> Text:
    # A Text, because square brackets in a plain string are markup.
    return Text(visible(dataset).replace("\n", "\\n"))


def _accuracy(metrics: Metrics, dataset: str) -> str:
    found = [metrics.right_before.get(dataset), metrics.right.get(dataset)]
    return " → ".join(f"{score.value:.0%}" if score else "–" for score in found) if any(found) else "–"


def _rows(score: Score | None) -> str:
    return f"{score.n:,}" if score else "–"


def _number(value: float | None, digits: int) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:,.{digits}f}" if value < 1e6 else f"{value:.2e}"


def _change(before: float | None, after: float | None) -> Text:
    if not before or after is None or not abs(after / before) < float("inf"):
        return Text("–")
    percent = 100 * (after / before - 1)
    return Text(f"{percent:+.1f}%", style="green" if percent < 0 else "red" if percent > 0 else "")


def _percent(measure: Measure) -> tuple[str, str]:
    return f"{100 * measure.accuracy:.2f}", "–" if math.isnan(measure.error) else f"{100 * measure.error:.2f}"
