"""A comparison as one page of HTML that loads nothing: verdict, tables, differences, costs, and the runs' reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from hbo.compare.headroom import HeadroomPart
from hbo.compare.markdown import READING
from hbo.compare.search import BEST
from hbo.compare.statistics import Paired
from hbo.compare.table import Contest, Difference, Metric, ResultLine, Table
from hbo.compare.verdict import TOO_SMALL, is_too_small, verdict
from hbo.folder.paths import REPORT
from hbo.report.markup import MISSING, Grid, asset, in_percent, markup, name, number, rendered, time_span

_ROW = 26  # pixels
_MARGIN = 9  # percent of the drawing's width, for half a label of the axis
_APART = 18  # of two labels, likewise, so that they don't overlap
_ARROWS = {-1: " ↓", 0: "", 1: " ↑"}
_RANKS = {1: "<strong>{}</strong>", 2: '<span class="second">{}</span>'}
_HEADS = {"macro NLL": "mean loss (macro NLL)", "relative NLL": "after ÷ before", "worst NLL": "worst loss"}


def page(table: Table | None, title: str, runs: Sequence[ResultLine] = (), headroom: HeadroomPart | None = None) -> str:
    """The whole of comparison.html.

    Args:
        table: None while no run is finished.
        title: Of the page.
        runs: The finished runs; those that name their `folder`, as the page finds it, get a link to their report.
        headroom: What a search for the best static mixture came to, if there was one.
    """
    grids: list[tuple[str, str, str, Grid]] = []
    if table:
        grids.append(("methods", "Methods", READING, _html_grid(table, table.averages, "Means over seeds", wins=True)))
        for anchor, heading, columns, caption in (
            ("losses", "Loss of each dataset", table.losses, "Held-out loss (NLL) after training, nats per token"),
            ("accuracy", "Accuracy", table.accuracies, "Share of right answers"),
            ("benchmarks", "Benchmarks", table.benchmarks, "Accuracy on benchmarks"),
        ):
            grids += [(anchor, heading, "", _html_grid(table, columns, caption))] if columns else []
    return rendered(
        "compare/comparison.html",
        title=title,
        style=asset("report/templates/page.css"),
        row=_ROW,
        answers=_answers(table, headroom),
        searched=[_plain_grid(*each) for each in headroom.tables] if headroom else [],
        too_small=in_percent(TOO_SMALL),
        grids=grids,
        notes=table.notes if table else [],
        contests=[_contest_facts(contest, table) for contest in table.contests] if table else [],
        costs=_costs(table) if table else None,
        reports=_reports(runs),
    )


def _answers(table: Table | None, headroom: HeadroomPart | None) -> list[tuple[str, str, str]]:
    """What the page begins with: anchor, question and answer."""
    found = (
        [("headroom", "Is there anything to win on this mixture?", " ".join(headroom.sentences))] if headroom else []
    )
    if table is None or not headroom or table.judged:
        found.append(("verdict", "Did balancing help?", verdict(table)))
    return found


def _plain_grid(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    return Grid(caption, [name(cell) for cell in head], [[name(first), *cells] for first, *cells in rows])


def _html_grid(table: Table, columns: Sequence[Metric], caption: str, *, wins: bool = False) -> Grid:
    head = ["method", "seeds", *(_headed(column, table) for column in columns), *(["datasets won ↑"] if wins else [])]
    cells = [_column(table, column) for column in columns]
    rows = []
    for i, label in enumerate(table.labels):
        shown = [column[i] for column in cells]
        rows.append([name(label), str(table.seeds[label]), *shown, *([str(table.wins[label])] if wins else [])])
    return Grid(caption, head, rows)


def _headed(column: Metric, table: Table) -> str:
    if column in table.averages:
        return _HEADS.get(column.name, column.name) + _ARROWS[column.better]
    # The names of datasets are a user's own: the style cuts them short, and the whole is in their title.
    shown = column.name
    if column not in table.losses:  # the caption says what it is
        shown = shown.removeprefix("accuracy of ").removeprefix("benchmark ")
    return markup("{}{}", name(shown), _ARROWS[column.better])


def _column(table: Table, column: Metric) -> list[str]:
    """The cells of a column; shares of right answers in percent."""
    entries = [table.entries[label, column] for label in table.labels]
    shown = significant([(column.scale * entry.mean, column.scale * entry.error) for entry in entries], column.unit)
    return [markup(_RANKS.get(entry.rank, "{}"), cell) for entry, cell in zip(entries, shown, strict=True)]


def significant(measured: Sequence[tuple[float, float]], unit: str = "") -> list[str]:
    """Means with their errors, in as many decimals as two digits of the largest error need; three where none is.

    Example:
        >>> significant([(6.92431, float("nan"))])
        ['6.924']
    """
    errors = [error for _, error in measured if error > 0]
    digits = _decimals(max(errors), 2) if errors else 3 if not unit else 1
    cells: list[str] = []
    for mean, error in measured:
        if math.isnan(mean):
            cells.append(MISSING)
        elif math.isnan(error):
            cells.append(number(mean, digits) + unit)
        else:
            cells.append(
                markup('{}{} <small class="se">± {}</small>', number(mean, digits), unit, number(error, digits))
            )
    return cells


def _decimals(value: float, significant_digits: int) -> int:
    if not value or not math.isfinite(value):
        return 3
    return min(6, max(0, significant_digits - 1 - math.floor(math.log10(abs(value)))))


def _costs(table: Table) -> Grid:
    """What each method took: time in training, and what balancing added to it."""
    rows = []
    for label in table.labels:
        overhead, seconds = (table.entries[label, column] for column in table.costs)
        rows.append([name(label), str(table.seeds[label]), time_span(seconds.mean), in_percent(overhead.mean)])
    head = ["method", "runs", "training of a run", "balancing adds"]
    return Grid("Time, means over seeds", head, rows)


def _reports(runs: Sequence[ResultLine]) -> Grid | None:
    """A link to each run's report, a row for each method and a column for each seed."""
    found = {(run["label"], run["seed"]): str(run["folder"]) for run in runs if run.get("folder")}
    if not found:
        return None
    seeds, labels = sorted({seed for _, seed in found}), list(dict.fromkeys(label for label, _ in found))
    rows = [[name(label), *(_link(found.get((label, seed)), seed) for seed in seeds)] for label in labels]
    return Grid("Report of each run", ["method", *(f"seed {seed}" for seed in seeds)], rows)


def _link(folder: str | None, seed: int) -> str:
    return MISSING if folder is None else markup('<a href="{}">report</a>', quote(f"{folder}/{REPORT}"))


def _contest_facts(contest: Contest, table: Table) -> tuple[str, Grid, dict[str, Any]]:
    """The contest's heading, its numbers and what the drawing of its intervals needs."""
    column, best = contest.column, table.entries[contest.best, contest.column].mean
    rows = []
    for difference in contest.differences:
        d = _scaled(difference.found, column.scale)
        digits = _decimals(max(abs(d.mean), abs(d.low), abs(d.high)), 3) if d.pairs > 1 else _decimals(d.mean, 3)
        interval = f"{_signed(d.low, digits)} to {_signed(d.high, digits)}"
        found = [interval, number(d.p)] if d.pairs > 1 else [MISSING] * 2
        moved = _moved(d, column, digits)
        share = in_percent(abs(difference.found.mean / best)) if best and math.isfinite(d.mean) else MISSING
        verdict_cell = markup('<td class="words">{}</td>', _in_words(difference, best))
        rows.append([name(difference.label), str(d.pairs), moved, share, *found, verdict_cell])
    head = ["method", "seeds", "mean difference", "of the baseline", "95% interval", "p (sign flips)", "in words"]
    shown = _HEADS.get(column.name, column.name)
    heading = f"{shown}{_ARROWS[column.better]} ({column.reading})"
    searched = contest.best == BEST
    heading += f", against the {BEST}" if searched else ""
    grid = Grid(f"Difference of {column.name} to {contest.best}{'' if searched else ', the best baseline'}", head, rows)
    return heading, grid, _drawing(contest)


def _scaled(found: Paired, scale: float) -> Paired:
    return replace(found, mean=scale * found.mean, low=scale * found.low, high=scale * found.high)


def _moved(found: Paired, column: Metric, digits: int) -> str:
    """The difference, with an arrow and a colour that say whether it is better."""
    mean = found.mean
    if not mean or math.isnan(mean):
        return number(mean, 3)
    css = "better" if (mean > 0) == (column.better > 0) else "worse"
    if found.pairs < 2 or "difference" in found.verdict:
        return _signed(mean, digits)  # an arrow would say more than the seeds do
    mark = "▲" if mean > 0 else "▼"
    pattern = '<span class="{}"><span role="img" aria-label="{}">{}</span> {}</span>'
    return markup(pattern, css, css, mark, _signed(mean, digits))


def _in_words(difference: Difference, best: float) -> str:
    found = difference.found
    is_small = is_too_small(found.mean, best)
    seen = "difference" not in found.verdict
    return f"{found.verdict}; too small to matter" if is_small and seen else found.verdict


def _drawing(contest: Contest) -> dict[str, Any]:
    """Each method's interval on one line, the baseline at 0; without marks where one seed gives no interval."""
    shown = [d for d in contest.differences if d.found.pairs > 1 and math.isfinite(d.found.low + d.found.high)]
    ends = [0.0, *(x for d in shown for x in (d.found.low, d.found.high))]
    low, span, scale = min(ends), (max(ends) - min(ends)) or 1.0, contest.column.scale

    def at(value: float) -> float:
        return round(_MARGIN + (100 - 2 * _MARGIN) * (value - low) / span, 2)

    marks = []
    for i, d in enumerate(shown):
        ends_at = {"low": at(d.found.low), "mean": at(d.found.mean), "high": at(d.found.high)}
        marks.append({"name": name(d.label), "y": _ROW * i + _ROW // 2, **ends_at})
    told = [x for x in sorted({low, 0.0, max(ends)}) if x == 0.0 or abs(at(x) - at(0)) > _APART]
    axis = [(at(x), "0" if x == 0 else _signed(scale * x, _decimals(scale * x, 3))) for x in told]
    return {"marks": marks, "axis": axis, "zero": at(0), "bottom": _ROW * len(shown)}


def _signed(value: float, digits: int = 3) -> str:
    return ("+" if value > 0 else "") + number(value, digits)
