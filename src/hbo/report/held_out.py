"""The section of the held-out rows: what a model came to against no training, as tables and a drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from hbo.folder.metrics import Accuracy, Metrics, Score
from hbo.report.balance_sections import Figures, Runs, TemplateFacts, beside
from hbo.report.chance import is_chance
from hbo.report.helped import Answers, answers_of, loss_change, not_measured
from hbo.report.markup import MISSING, Grid, in_percent, markup, name, number, whole_number
from hbo.report.series import Shown

_MACRO = markup("<strong>Mean (macro)</strong>")
_ROW = 30  # pixels
_MARGIN = 6  # percent of a drawing's width
_WAYS = {"lower": ("better", "▼"), "higher": ("worse", "▲"), "unchanged": ("same", "=")}


class Pair(NamedTuple):
    """A measure of a dataset before and after training."""

    name: str
    before: float
    after: float
    css: str
    said: str


def held_out_facts(runs: Runs, figures: Figures) -> TemplateFacts:
    """What the section needs."""
    facts: TemplateFacts = {"why_none": "", "accuracies": None, "relative": None, "drawings": []}
    if len(runs) > 1:
        losses = beside("Held-out loss after training", runs, _loss_after, also_scored=True)
        known = [shown.run.metrics for shown in runs]
        losses.rows.append([_MACRO, *(number(m.macro_nll if m else None) for m in known)])
        ratios = [number(m.relative_nll if m else None) for m in known]
        losses.rows.append(["After ÷ before, mean over datasets", *ratios])
        right = beside("Accuracy after training", runs, _accuracy_after, also_scored=True)
        right = right._replace(rows=[row for row in right.rows if set(row[1:]) != {MISSING}])
        return facts | {"losses": losses, "accuracies": right if right.rows else None}
    run, metrics = runs[0].run, runs[0].run.metrics
    if metrics is None or not (metrics.after or metrics.before):
        return facts | {"why_none": not_measured(run)}
    was_asked = bool(metrics.right or metrics.right_before)
    head = ["Dataset", "Loss before", "Loss after", "Change", "Perplexity before", "Perplexity after", "Rows"]
    datasets = [*run.datasets, *sorted({*metrics.after, *metrics.before} - {*run.datasets})]
    rows = [_held_out_row(metrics, dataset) for dataset in datasets]
    macro = before_and_after(metrics.macro_before, metrics.macro_nll)
    rows.append([_MACRO, *macro, *[""] * (len(head) - 4)])
    grid = Grid("Held-out rows before and after training", head, rows)
    asked = [[name(d), *_answered(metrics, d)] for d in datasets if d in metrics.right or d in metrics.right_before]
    columns = ["Dataset", "Accuracy before", "Accuracy after", "Change"]
    return facts | {
        "losses": grid,
        "accuracies": Grid("Right answers before and after training", columns, asked) if was_asked else None,
        "relative": metrics.relative_nll,
        "drawings": [drawn for drawn in (_losses_drawn(metrics, datasets), _answers_drawn(metrics, datasets)) if drawn],
    }


def before_and_after(before: float | None, after: float | None) -> list[str]:
    """The cells of a loss: before, after, and by how much it changed."""
    return [number(before), number(after), _change(before, after)]


def rows_scored(scored: Score | Accuracy | None) -> str:
    """How many rows were scored."""
    return whole_number(scored.n if scored else None)


def _held_out_row(metrics: Metrics, dataset: str) -> list[str]:
    first, last = metrics.before.get(dataset), metrics.after.get(dataset)
    losses = before_and_after(*(score.nll if score else None for score in (first, last)))
    perplexities = [number(score.perplexity if score else None, 2) for score in (first, last)]
    return [name(dataset), *losses, *perplexities, rows_scored(last or first)]


def _answered(metrics: Metrics, dataset: str) -> list[str]:
    """Right answers as counts, before and after, and whether they differ by more than chance."""
    cells = [_count(found.get(dataset)) for found in (metrics.right_before, metrics.right)]
    counts = answers_of(metrics).get(dataset)
    return [*cells, MISSING if counts is None else _difference(counts)]


def _count(found: Accuracy | None) -> str:
    if found is None:
        return MISSING
    return markup("{} of {} <small>{}</small>", found.right, found.n, in_percent(found.value))


def _difference(counts: Answers) -> str:
    moved = counts.after - counts.before
    if not moved:
        return markup('<span class="same">= unchanged</span>')
    mark, said = ("▲", "more") if moved > 0 else ("▼", "fewer")
    if is_chance(*counts):
        return markup("{} {} {} <small>within chance</small>", mark, abs(moved), said)
    return markup('<span class="{}">{} {} {}</span>', "better" if moved > 0 else "worse", mark, abs(moved), said)


def _loss_after(shown: Shown, dataset: str) -> str:
    metrics = shown.run.metrics
    if metrics is None or (after := metrics.after.get(dataset)) is None:
        return MISSING
    before = metrics.before.get(dataset)
    moved = markup("<small>{}</small>", _change(before.nll, after.nll)) if before else ""
    return markup("{} {}", number(after.nll), moved)


def _accuracy_after(shown: Shown, dataset: str) -> str:
    metrics = shown.run.metrics
    if metrics is None or (right := metrics.right.get(dataset)) is None:
        return MISSING
    first = metrics.right_before.get(dataset)
    was = markup(" <small>was {}</small>", first.right) if first else ""
    return markup("{} of {}{}", right.right, right.n, was)


def _change(before: float | None, after: float | None) -> str:
    """By how much a loss fell or rose, in percent."""
    if before is None or after is None or not math.isfinite(before) or not math.isfinite(after) or before <= 0:
        return MISSING
    way = loss_change(before, after)
    css, mark = _WAYS[way]
    if way == "unchanged":
        return markup('<span class="{}">{} unchanged</span>', css, mark)
    pattern = '<span class="{}"><span role="img" aria-label="{}">{}</span> {:,.1f}%</span>'
    return markup(pattern, css, way, mark, abs(100 * (after / before - 1)))


def _losses_drawn(metrics: Metrics, datasets: Sequence[str]) -> dict[str, Any] | None:
    pairs = []
    for dataset in datasets:
        if dataset in metrics.before and dataset in metrics.after:
            before, after = metrics.before[dataset].nll, metrics.after[dataset].nll
            css = _WAYS[loss_change(before, after)][0]
            pairs.append(Pair(dataset, before, after, css, f"{before:.2f} → {after:.2f}"))
    return _drawing("Held-out loss, nats per response token (lower is better)", pairs, "")


def _answers_drawn(metrics: Metrics, datasets: Sequence[str]) -> dict[str, Any] | None:
    pairs, found = [], answers_of(metrics)
    for dataset, counts in ((d, found[d]) for d in datasets if d in found):
        before, after = counts.before / counts.rows, counts.after / counts.rows
        css = "same" if is_chance(*counts) else "better" if after > before else "worse"
        pairs.append(Pair(dataset, 100 * before, 100 * after, css, counts.told))
    return _drawing("Right answers (more is better; grey is within chance)", pairs, "%")


def _drawing(caption: str, pairs: Sequence[Pair], unit: str) -> dict[str, Any] | None:
    """Each dataset's way from before (hollow) to after (full) on one line, from 0."""
    pairs = [pair for pair in pairs if math.isfinite(pair.before + pair.after)]
    most = max((max(pair.before, pair.after) for pair in pairs), default=0.0)
    if not pairs or most <= 0:
        return None
    step = next(s for s in _round_steps(most) if most / s <= 6)

    def at(value: float) -> float:
        return round(_MARGIN + (100 - 2 * _MARGIN) * value / most, 2)

    marks = [
        {"name": name(p.name), "y": _ROW * i + _ROW // 2, "before": at(p.before), "after": at(p.after), **_looks(p)}
        for i, p in enumerate(pairs)
    ]
    axis = [(at(i * step), f"{i * step:g}{unit}") for i in range(int(most / step + 1e-9) + 1)]
    return {"caption": caption, "marks": marks, "axis": axis, "row": _ROW, "bottom": _ROW * len(pairs)}


def _looks(pair: Pair) -> dict[str, str]:
    return {"css": pair.css, "said": pair.said}


def _round_steps(most: float) -> list[float]:
    power = 10.0 ** math.floor(math.log10(most))
    return [each * power for each in (0.1, 0.2, 0.5, 1.0, 2.0)]
