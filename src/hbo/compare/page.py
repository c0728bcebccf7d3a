"""The table of a comparison as one page of HTML that loads nothing: the look of a run's report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources

from hbo.compare.markdown import READING
from hbo.compare.table import Column, Contest, Entry, Table
from hbo.report import markup

_WIDTH, _ROW, _LEFT, _RIGHT = 760, 26, 230, 20
_APART = 60  # of two labels of the axis, so that they don't overlap


def page(table: Table | None, title: str) -> str:
    """The whole of comparison.html.

    Args:
        table: None while no run is finished.
        title: Of the page.

    Raises:
        Nothing.
    """
    if table is None:
        inner = "<p>No run is finished yet.</p>"
    else:
        how = f'<p class="how">{markup.text(READING)}</p>'
        inner = markup.section("methods", "Methods", how, _grid(table, table.columns, "Methods", wins=True))
        if table.accuracies:
            inner += markup.section("accuracy", "Accuracy", _grid(table, table.accuracies, "Accuracy"))
        if table.benchmarks:
            shown = _grid(table, table.benchmarks, "Accuracy on benchmarks")
            inner += markup.section("benchmarks", "Benchmarks", shown)
        if table.contests:
            inner += markup.section("differences", "Against the best baseline", *map(_contest, table.contests))
    style = resources.files("hbo.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{markup.text(title)}</title>\n<style>{style}\nh1{{padding-top:1.5rem}}.second{{text-decoration:underline}}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{markup.text(title)}</h1>\n{inner}\n</main>\n"
        "<footer>Written by hbo from the grid's results.jsonl. This page loads nothing from the network.</footer>\n"
        "</body>\n</html>\n"
    )


def _grid(table: Table, columns: Sequence[Column], caption: str, *, wins: bool = False) -> str:
    head = ["method", "seeds", *(markup.text(column.name) for column in columns), *(["wins"] if wins else [])]
    rows = []
    for label in table.labels:
        shown = [_marked(table.entries[label, column.name], column.digits) for column in columns]
        last = [str(table.wins[label])] if wins else []
        rows.append([markup.name(label), str(table.seeds[label]), *shown, *last])
    return markup.table(caption, head, rows)


def _marked(entry: Entry, digits: int) -> str:
    shown = markup.with_error(entry.mean, entry.error, digits)
    return {1: f"<strong>{shown}</strong>", 2: f'<span class="second">{shown}</span>'}.get(entry.rank, shown)


def _contest(contest: Contest) -> str:
    better = "less is better" if contest.column.better < 0 else "more is better"
    caption = f"{contest.column.name} ({better}): difference to {contest.best}"
    rows = []
    for difference in contest.differences:
        d = difference.found
        several = d.pairs > 1
        interval = f"[{markup.number(d.low, 4)}, {markup.number(d.high, 4)}]" if several else markup.MISSING
        numbers = [markup.number(d.mean, 4), interval, markup.number(d.p) if several else markup.MISSING]
        rows.append([markup.name(difference.label), str(d.pairs), *numbers, markup.text(d.verdict)])
    head = ["method", "seeds", "mean difference", "95% bootstrap interval", "p (sign flips)", "in words"]
    return _drawing(contest, caption) + markup.table(caption, head, rows)


def _drawing(contest: Contest, caption: str) -> str:
    """Each method's interval on one line, the baseline at 0; nothing where one seed gives no interval."""
    shown = [d for d in contest.differences if d.found.pairs > 1 and math.isfinite(d.found.low + d.found.high)]
    if not shown:
        return ""
    ends = [0.0, *(x for d in shown for x in (d.found.low, d.found.high))]
    low, span = min(ends), (max(ends) - min(ends)) or 1.0

    def at(value: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / span, 1)

    height = _ROW * len(shown) + 24
    parts = [f'<path d="M{at(0)} 0V{height - 20}" stroke="currentColor" stroke-dasharray="3 3" opacity=".6"/>']
    for i, difference in enumerate(shown):
        d, y = difference.found, _ROW * i + 14
        label = difference.label if len(difference.label) < 32 else difference.label[:31] + "…"
        parts.append(
            f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{markup.text(label)}</text>'
            f'<path d="M{at(d.low)} {y}H{at(d.high)}" stroke="currentColor" stroke-width="2"/>'
            f'<circle cx="{at(d.mean)}" cy="{y}" r="4"/>'
        )
    parts += [
        f'<text x="{at(value)}" y="{height - 4}" text-anchor="middle">{markup.number(value)}</text>'
        for value in sorted({low, 0.0, max(ends)})
        if value == 0.0 or abs(at(value) - at(0)) > _APART
    ]
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{markup.text(caption)}" '
        f'style="max-width:{_WIDTH}px;width:100%" fill="currentColor" font-size="12">{"".join(parts)}</svg></figure>'
    )
