"""The sections about the balancer: probabilities, rewards and the rows drawn, of one run or of several side by side.

S ledger lines, K datasets, L groups of a dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from hbo.arrays import Floats
from hbo.config.methods import is_flat
from hbo.core.prior import MANY_PASSES
from hbo.report.figures import Figure
from hbo.report.markup import MISSING, Grid, in_percent, markup, name, number, swatch, with_error
from hbo.report.series import Series, Shown, epochs, evenly, group_name, places, reward_shares

Runs = Sequence[Shown]
Figures = Mapping[str, Figure]
TemplateFacts = dict[str, Any]
"""What a section's template needs, beside what all of them share (see `page.py`)."""

TARGETS = 30  # ledger lines up to which the targets are shown unasked: they hide the policy when they are many
_ROWS = 12  # of a table with one row per update; the ledger has them all
_LEGEND_GROUPS = 12
_NAMED = 6


def global_facts(runs: Runs, figures: Figures) -> TemplateFacts:
    """What the section of the datasets' probabilities needs."""
    if len(runs) > 1:
        return {"numbers": _moves(runs, inside=False)}
    run, series = runs[0].run, runs[0].series
    aim_SK = reward_shares(run, series)[0]
    last_K = next((aim_K for aim_K in aim_SK[::-1] if np.isfinite(aim_K).any()), np.full(len(run.datasets), np.nan))
    shares = np.stack([series.p_SK[0], series.p_SK[-1], last_K], axis=1)
    head = ["Dataset", "At the start", "After the last update", "Its last share of the rewards"]
    rows = [[marked(k, d), *map(in_percent, shares[k])] for k, d in enumerate(run.datasets)]
    points = len(figures["global-p"]["traces"][0]["x"])
    return {
        "thinned": f"{points:,}" if points < len(run.lines) else "",
        "numbers": Grid("Share of the rows asked from each dataset", head, rows),
        "every_update": _over_updates(runs[0], series.p_SK, lambda s, k: in_percent(series.p_SK[s, k])),
    }


def local_facts(runs: Runs, figures: Figures) -> TemplateFacts:
    """What the section of the groups' probabilities needs."""
    if len(runs) > 1:
        return {"numbers": _moves(runs, inside=True)}
    extent = figures["local-p-0"]["range"]
    caption = "Share of each group in its dataset, at the start → after the last update"
    numbers = _by_group(caption, runs[0], lambda k, j: _moved(runs[0].series, k, j))
    return {"starts_above_0": extent and extent[0] > 0, "numbers": numbers}


def rewards_facts(runs: Runs, figures: Figures) -> TemplateFacts:
    """What the section of the rewards needs."""
    facts: TemplateFacts = {"why_none": "", "has": lambda kind: any(kind in figure for figure in figures)}
    without = Markup(", ").join(name(shown.label) for shown in runs if not shown.series.measured)
    if len(runs) > 1:
        return facts | {"why_none": markup("Measured no rewards: {}", without) if without else ""}
    run, series = runs[0].run, runs[0].series
    if without:
        is_static = len(run.lines) > 1 or run.metrics is not None
        why = "measures no rewards: its probabilities are frozen" if is_static else "has measured no rewards yet"
        return facts | {"why_none": f"The run {why}"}

    def of_dataset(s: int, k: int) -> str:
        return with_error(series.reward_SK[s, k], series.reward_se_SK[s, k])

    def of_group(k: int, j: int) -> str:
        return with_error(series.reward_SKL[last, k, j], series.reward_se_SKL[last, k, j])

    last = max(np.flatnonzero(np.isfinite(series.reward_SKL).any(axis=(1, 2))), default=0)
    caption = f"Reward of each group at step {series.step_S[last]:,}, ± standard error"
    facts["every_update"] = _over_updates(runs[0], series.reward_SK, of_dataset)
    facts["inside"] = "of all groups" if is_flat(run.method) else "inside one dataset"
    return facts | {"last": _by_group(caption, runs[0], of_group)}


def drawn_facts(runs: Runs, figures: Figures) -> TemplateFacts:
    """What the section of the rows drawn needs."""
    facts: TemplateFacts = {"often": MANY_PASSES, "repeated": list(map(_repeated, runs))}
    if len(runs) > 1:
        return facts | {"counts": beside("Rows drawn per dataset", runs, _dataset_drawn, css="heat")}
    run, series, seen_KL = runs[0].run, runs[0].series, _passes(runs[0])
    total = float(series.drawn_KL.sum())
    if not total:
        return facts | {"drawn_at_all": False}

    def whole(drawn: Floats, asked: Floats) -> Markup:
        return markup('<td class="count">{:,}{}</td>', int(drawn.sum()), _asked(drawn.sum(), asked.sum(), total))

    rows = []
    for k, dataset in enumerate(run.datasets):
        cells = [_group_drawn(series, seen_KL, k, j) for j in range(series.groups)]
        rows.append([name(dataset), *cells, whole(series.drawn_KL[k], series.asked_KL[k])])
    columns = [whole(series.drawn_KL[:, j], series.asked_KL[:, j]) for j in range(series.groups)]
    everything = markup('<td class="count"><strong>{:,}</strong></td>', int(total))
    rows.append([Markup("<strong>All</strong>"), *columns, everything])
    until = f"up to step {series.step_S[-1]:,}, the last line of the ledger" if run.drawn_KL is None else "in all steps"
    return facts | {
        "drawn_at_all": True,
        "until": until,
        "passes_known": np.isfinite(seen_KL).any(),
        "counts": Grid("Rows drawn per dataset and group", [*_group_head(series), "All groups"], rows, "heat"),
    }


def _passes(shown: Shown) -> Floats:
    return epochs(shown.series.drawn_KL, shown.run.sizes, shown.run.datasets)


def _repeated(shown: Shown) -> tuple[Markup, list[Markup], int]:
    """The run, its groups whose rows were seen very often, most often first, and how many more there are."""
    seen_KL = _passes(shown)
    worst = sorted(((seen_KL[k, j], k, j) for k, j in np.argwhere(np.nan_to_num(seen_KL) >= MANY_PASSES)), reverse=True)
    named = [
        markup("{} g{} ({} ×)", name(shown.run.datasets[k]), j + 1, number(seen, 1)) for seen, k, j in worst[:_NAMED]
    ]
    return name(shown.label), named, len(worst) - _NAMED


def _group_drawn(series: Series, seen_KL: Floats, k: int, j: int) -> str:
    if np.isnan(series.q_SKL[0, k, j]):
        return MISSING
    rows, seen, is_often = series.drawn_KL[k, j], seen_KL[k, j], seen_KL[k, j] >= MANY_PASSES
    shares = _asked(rows, series.asked_KL[k, j], series.drawn_KL.sum())
    again = "" if np.isnan(seen) else markup("<small>{}{} ×</small>", "⚠ " if is_often else "", number(seen, 2))
    css, shade = "count again" if is_often else "count", f"{rows / series.drawn_KL.max():.3f}"
    return markup('<td class="{}" style="--share:{}">{:,}{}{}</td>', css, shade, int(rows), shares, again)


def _dataset_drawn(shown: Shown, dataset: str) -> str:
    series, total = shown.series, float(shown.series.drawn_KL.sum())
    if dataset not in shown.run.datasets or total == 0:
        return MISSING
    k, seen_KL, most = shown.run.datasets.index(dataset), _passes(shown), Markup("")
    share, asked = series.drawn_KL[k].sum() / total, series.asked_KL[k].sum() / total
    if np.isfinite(seen_KL[k]).any():
        level = int(np.nanargmax(seen_KL[k]))
        most = markup("<small>g{} {} ×</small>", level + 1, number(float(seen_KL[k, level]), 2))
    pattern = '<td class="count" style="--share:{:.3f}">{}<small>asked {}</small>{}</td>'
    return markup(pattern, share, in_percent(share), in_percent(asked), most)


def _asked(rows: float, asked: float, total: float) -> Markup:
    return markup("<small>{}, asked {}</small>", in_percent(rows / total), in_percent(asked / total))


def labels_of(runs: Runs) -> list[str]:
    """The heads of a table's columns, one for each run."""
    return [name(shown.label) for shown in runs]


def marked(place: int | None, dataset: str) -> Markup:
    """A dataset's name behind the line that it is drawn with, if it has one."""
    return markup("{}{}", "" if place is None else swatch(f"d{place}"), name(dataset))


def legend_keys(runs: Runs, figures: Figures, charts: str) -> dict[str, str]:
    """The series in the figures whose ids begin with `charts`: the key of each, and what its button says."""
    drawn = [trace for key, figure in figures.items() if key.startswith(charts) for trace in figure["traces"]]
    keys = {trace["key"] for trace in drawn}
    sizes = sorted({int(key.split("/")[1]) for key in keys if key.startswith("g")} - ({1} if len(runs) > 1 else set()))
    named = {"overall": "all datasets"} if len(runs) == 1 else {}
    named |= {f"d{place}": name(dataset) for dataset, place in places(runs).items()}
    for size in sizes:
        among = f" of {size}" if len(sizes) > 1 else ""
        named |= {f"g{j}/{size}": group_name(j, size) + among for j in evenly(size, _LEGEND_GROUPS)}
    found = {key: said for key, said in named.items() if key in keys}
    return found | ({"target": "share of the rewards"} if any(trace.get("target") for trace in drawn) else {})


def blocks(runs: Runs, figures: Figures, kind: str) -> list[TemplateFacts]:
    """For each dataset that has any, its charts of a kind: pairs of a figure's id and its run."""
    found = []
    for dataset, place in places(runs).items():
        having = [shown for shown in runs if dataset in shown.run.datasets]
        charts = [(f"{s.prefix}{kind}-{s.run.datasets.index(dataset)}", s.label) for s in having]
        charts = [(figure, label) for figure, label in charts if figure in figures]
        found += [{"key": f"d{place}", "dataset": dataset, "charts": charts}] if charts else []
    return found


def beside(
    caption: str, runs: Runs, cell: Callable[[Shown, str], str], *, also_scored: bool = False, css: str = ""
) -> Grid:
    """A row for each dataset of the mixtures, and for any other that was `also_scored`; a cell for each run."""
    found: dict[str, int | None] = dict(places(runs))
    for metrics in (shown.run.metrics for shown in runs if also_scored):
        found |= {dataset: None for dataset in (metrics.after if metrics else ()) if dataset not in found}
    rows = [[marked(place, d), *(cell(shown, d) for shown in runs)] for d, place in found.items()]
    return Grid(caption, ["Dataset", *labels_of(runs)], rows, css)


def _moves(runs: Runs, *, inside: bool) -> Grid:
    """The numbers behind the charts: each dataset's probability, or each group's `inside` its dataset."""
    rows = []
    for dataset, place in places(runs).items():
        at = [shown.run.datasets.index(dataset) if dataset in shown.run.datasets else None for shown in runs]
        levels = max(len(s.run.lines[0].q_KL[k]) for s, k in zip(runs, at, strict=True) if k is not None)
        for j in range(levels) if inside else [None]:
            cells = [_moved(shown.series, k, j) for shown, k in zip(runs, at, strict=True)]
            rows.append([marked(place, dataset) + ("" if j is None else f" g{j + 1}"), *cells])
    of = "of each group in its dataset" if inside else "of each dataset"
    return Grid(f"Share {of}, at the start → after the last update", ["", *labels_of(runs)], rows)


def _moved(series: Series, k: int | None, j: int | None) -> str:
    if k is None or (j is not None and j >= series.groups):
        return MISSING
    p_S = series.p_SK[:, k] if j is None else series.q_SKL[:, k, j]
    return Markup(" → ").join([in_percent(p_S[0]), in_percent(p_S[-1])])


def _by_group(caption: str, shown: Shown, cell: Callable[[int, int], str]) -> Grid:
    exists_KL, rows = np.isfinite(shown.series.q_SKL[0]), []
    for k, dataset in enumerate(shown.run.datasets):
        cells = [cell(k, j) if exists else MISSING for j, exists in enumerate(exists_KL[k])]
        rows.append([name(dataset), *cells])
    return Grid(caption, _group_head(shown.series), rows)


def _group_head(series: Series) -> list[str]:
    return ["Dataset", *(f"g{j + 1}" for j in range(series.groups))]


def _over_updates(shown: Shown, measured_SK: Floats, cell: Callable[[int, int], str]) -> Grid:
    run, series = shown.run, shown.series
    lines = np.flatnonzero(np.isfinite(measured_SK).any(axis=1))
    chosen = [int(lines[i]) for i in evenly(len(lines), _ROWS)]
    rows = [[f"{series.step_S[s]:,}", *(cell(s, k) for k in range(len(run.datasets)))] for s in chosen]
    caption = f"After step ({len(chosen)} of {len(lines)} lines of balance.jsonl)"
    return Grid(caption, ["Step", *map(name, run.datasets)], rows)
