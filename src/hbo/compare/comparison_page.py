"""The table of a comparison as one page of HTML that loads nothing: the look of a run's report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hbo.compare.markdown import READING
from hbo.compare.table import Contest, Metric, SeedMean, Table
from hbo.report.markup import MISSING, Grid, asset, markup, name, number, rendered, with_error

_ROW = 26  # pixels
_MARGIN = 9  # percent of the drawing's width, for half a label of the axis
_APART = 18  # of two labels, likewise, so that they don't overlap


def page(table: Table | None, title: str) -> str:
    """The whole of comparison.html.

    Args:
        table: None while no run is finished.
        title: Of the page.
    """
    grids: list[tuple[str, str, str, Grid]] = []
    if table:
        grids.append(("methods", "Methods", READING, _html_grid(table, table.columns, "Means over seeds", wins=True)))
        for anchor, heading, columns, caption in (
            ("accuracy", "Accuracy", table.accuracies, "Share of right answers"),
            ("benchmarks", "Benchmarks", table.benchmarks, "Accuracy on benchmarks"),
        ):
            grids += [(anchor, heading, "", _html_grid(table, columns, caption))] if columns else []
    return rendered(
        "compare/comparison.html",
        title=title,
        style=asset("report/templates/page.css"),
        row=_ROW,
        grids=grids,
        contests=[_contest_facts(contest) for contest in table.contests] if table else [],
    )


def _html_grid(table: Table, columns: Sequence[Metric], caption: str, *, wins: bool = False) -> Grid:
    head, rows = table.grid(columns, _emphasised, wins=wins)
    return Grid(caption, head, [[name(label), *cells] for label, *cells in rows])


def _emphasised(entry: SeedMean, digits: int) -> str:
    shown = with_error(entry.mean, entry.error, digits)
    pattern = {1: "<strong>{}</strong>", 2: '<span class="second">{}</span>'}.get(entry.rank, "{}")
    return markup(pattern, shown)


def _contest_facts(contest: Contest) -> tuple[str, Grid, dict[str, Any]]:
    """The contest's heading, its numbers and what the drawing of its intervals needs."""
    column = contest.column
    rows = []
    for difference in contest.differences:
        d = difference.found
        interval = f"[{_signed(d.low, 4)}, {_signed(d.high, 4)}]"
        found = [interval, number(d.p)] if d.pairs > 1 else [MISSING] * 2
        verdict = markup('<td class="words">{}</td>', d.verdict)
        rows.append([name(difference.label), str(d.pairs), _signed(d.mean, 4), *found, verdict])
    head = ["method", "seeds", "mean difference", "95% bootstrap interval", "p (sign flips)", "in words"]
    heading = f"{column.name} ({'less' if column.better < 0 else 'more'} is better)"
    return heading, Grid(f"Difference of {column.name} to {contest.best}", head, rows), _drawing(contest)


def _drawing(contest: Contest) -> dict[str, Any]:
    """Each method's interval on one line, the baseline at 0; without marks where one seed gives no interval."""
    shown = [d for d in contest.differences if d.found.pairs > 1 and math.isfinite(d.found.low + d.found.high)]
    ends = [0.0, *(x for d in shown for x in (d.found.low, d.found.high))]
    low, span = min(ends), (max(ends) - min(ends)) or 1.0

    def at(value: float) -> float:
        return round(_MARGIN + (100 - 2 * _MARGIN) * (value - low) / span, 2)

    marks = []
    for i, d in enumerate(shown):
        ends_at = {"low": at(d.found.low), "mean": at(d.found.mean), "high": at(d.found.high)}
        marks.append({"name": name(d.label), "y": _ROW * i + _ROW // 2, **ends_at})
    told = [x for x in sorted({low, 0.0, max(ends)}) if x == 0.0 or abs(at(x) - at(0)) > _APART]
    axis = [(at(x), _signed(x)) for x in told]
    return {"marks": marks, "axis": axis, "zero": at(0), "bottom": _ROW * len(shown)}


def _signed(value: float, digits: int = 3) -> str:
    return ("+" if value > 0 else "") + number(value, digits)
