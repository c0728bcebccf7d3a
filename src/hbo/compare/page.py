"""The table of a comparison as one page of HTML that loads nothing: the look of a run's report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources

from hbo.compare.markdown import READING
from hbo.compare.table import Column, Contest, Entry, Table
from hbo.report import markup

_ROW = 26  # pixels
_MARGIN = 9  # percent of the drawing's width, for half a label of the axis
_APART = 18  # of two labels, likewise, so that they don't overlap
_STYLE = f"""
h1 {{ padding-top: 1.5rem; }}
.second {{ text-decoration: underline; }}
td.words, th:last-child {{ text-align: left; }}
.intervals {{ display: grid; grid-template-columns: minmax(0, max-content) minmax(0, 1fr); gap: .8rem; }}
.intervals ul {{ list-style: none; margin: 0; padding: 0; max-width: 38vw; text-align: right; font-size: .85rem; }}
.intervals li {{ height: {_ROW}px; line-height: {_ROW}px; }}
.intervals {{ max-width: 760px; }}
.intervals .name {{ max-width: 100%; }}
.intervals svg {{ width: 100%; overflow: visible; fill: currentColor; stroke: currentColor; font-size: 12px; }}
"""
_DRAWN = "A line is a method's interval, its dot the mean, and the dashed line the best baseline."


def page(table: Table | None, title: str) -> str:
    """The whole of comparison.html.

    Args:
        table: None while no run is finished.
        title: Of the page.
    """
    if table is None:
        inner = "<p>No run is finished yet.</p>"
    else:
        how = f'<p class="how">{markup.text(READING)}</p>'
        inner = markup.section("methods", "Methods", how, _grid(table, table.columns, "Means over seeds", wins=True))
        if table.accuracies:
            inner += markup.section("accuracy", "Accuracy", _grid(table, table.accuracies, "Share of right answers"))
        if table.benchmarks:
            shown = _grid(table, table.benchmarks, "Accuracy on benchmarks")
            inner += markup.section("benchmarks", "Benchmarks", shown)
        if table.contests:
            drawn = f'<p class="how">{_DRAWN}</p>'
            inner += markup.section("differences", "Against the best baseline", drawn, *map(_contest, table.contests))
    style = resources.files("hbo.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{markup.text(title)}</title>\n<style>{style}{_STYLE}</style>\n</head>\n"
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
    title = f"{contest.column.name} ({better})"
    caption = f"Difference of {contest.column.name} to {contest.best}"
    rows = []
    for difference in contest.differences:
        d = difference.found
        several = d.pairs > 1
        interval = f"[{_signed(d.low, 4)}, {_signed(d.high, 4)}]" if several else markup.MISSING
        numbers = [_signed(d.mean, 4), interval, markup.number(d.p) if several else markup.MISSING]
        verdict = f'<td class="words">{markup.text(d.verdict)}</td>'
        rows.append([markup.name(difference.label), str(d.pairs), *numbers, verdict])
    head = ["method", "seeds", "mean difference", "95% bootstrap interval", "p (sign flips)", "in words"]
    return f"<h3>{markup.text(title)}</h3>{_drawing(contest, caption)}{markup.table(caption, head, rows)}"


def _drawing(contest: Contest, caption: str) -> str:
    """Each method's interval on one line, the baseline at 0; nothing where one seed gives no interval."""
    shown = [d for d in contest.differences if d.found.pairs > 1 and math.isfinite(d.found.low + d.found.high)]
    if not shown:
        return ""
    ends = [0.0, *(x for d in shown for x in (d.found.low, d.found.high))]
    low, span = min(ends), (max(ends) - min(ends)) or 1.0

    def at(value: float) -> float:
        return round(_MARGIN + (100 - 2 * _MARGIN) * (value - low) / span, 2)

    bottom = _ROW * len(shown)
    parts = [f'<line x1="{at(0)}%" x2="{at(0)}%" y1="0" y2="{bottom + 4}" stroke-dasharray="3 3" opacity=".6"/>']
    for i, difference in enumerate(shown):
        d, y = difference.found, _ROW * i + _ROW // 2
        parts.append(
            f'<line x1="{at(d.low)}%" x2="{at(d.high)}%" y1="{y}" y2="{y}" stroke-width="2"/>'
            f'<circle cx="{at(d.mean)}%" cy="{y}" r="4"/>'
        )
    parts += [
        f'<text x="{at(value)}%" y="{bottom + 18}" text-anchor="middle" stroke="none">{_signed(value)}</text>'
        for value in sorted({low, 0.0, max(ends)})
        if value == 0.0 or abs(at(value) - at(0)) > _APART
    ]
    names = "".join(f"<li>{markup.name(difference.label)}</li>" for difference in shown)
    # Lengths in percent of a width that the style decides: a phone gets the same letters, not smaller ones.
    return (
        f'<figure class="intervals"><ul aria-hidden="true">{names}</ul>'
        f'<svg role="img" aria-label="{markup.text(caption)}" height="{bottom + 24}">{"".join(parts)}</svg></figure>'
    )


def _signed(value: float, digits: int = 3) -> str:
    return ("+" if value > 0 else "") + markup.number(value, digits)
