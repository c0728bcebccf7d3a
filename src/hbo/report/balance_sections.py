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
from hbo.folder.run import Run
from hbo.report.figures import Figure
from hbo.report.markup import MISSING, Grid, in_percent, markup, name, number, swatch, with_error
from hbo.report.series import Series, Shown, epochs, evenly, group_name, places, reward_shares

Runs = Sequence[Shown]
Figures = Mapping[str, Figure]
Facts = dict[str, Any]
Keys = list[tuple[str, str]]  # of a legend: a series' key, and what its button says

TARGETS = 30  # ledger lines up to which the targets are shown unasked: they hide the policy when they are many
_TARGET_KEY = ("target", "share of the rewards")
_ROWS = 12  # of a table with one row per update; the ledger has them all
_LEGEND_GROUPS = 12
_NAMED = 6


def legend_facts(runs: Runs, figures: Figures) -> Facts:
    keys = _dataset_keys(runs)
    sizes = sorted({len(q) for shown in runs for q in shown.run.lines[0].q_KL} - {1})
    for groups in sizes:
        among = f" of {groups}" if len(sizes) > 1 else ""
        keys += [(key, said + among) for key, said in _group_keys(groups)]
    return {"keys": keys + [_TARGET_KEY] * _have_targets(figures, "")}


def global_facts(runs: Runs, figures: Figures) -> Facts:
    if len(runs) > 1:
        return {"numbers": _moves(runs, inside=False)}
    run, series = runs[0].run, runs[0].series
    aim_SK = reward_shares(run, series)[0]
    last_K = next((aim_K for aim_K in aim_SK[::-1] if np.isfinite(aim_K).any()), np.full(len(run.datasets), np.nan))
    shares = np.stack([series.p_SK[0], series.p_SK[-1], last_K], axis=1)
    head = ["Dataset", "At the start", "After the last update", "Its last share of the rewards"]
    rows = [[marked(k, d), *map(number, shares[k])] for k, d in enumerate(run.datasets)]
    points = len(figures["global-p"]["traces"][0]["x"])
    has_targets = _have_targets(figures, "global-p")
    return {
        "has_targets": has_targets,
        "keys": _dataset_keys(runs) + [_TARGET_KEY] * has_targets,
        "thinned": f"{points:,}" if points < len(run.lines) else "",
        "numbers": Grid("Sampling probability per dataset", head, rows),
        "every_update": _over_updates(run, series, series.p_SK, lambda s, k: number(series.p_SK[s, k], 4)),
    }


def local_facts(runs: Runs, figures: Figures) -> Facts:
    if len(runs) > 1:
        return {"numbers": _moves(runs, inside=True), "blocks": _blocks(runs, figures, "local-p")}
    run, series = runs[0].run, runs[0].series
    extent = figures["local-p-0"]["range"]
    has_targets = bool(np.isfinite(reward_shares(run, series)[1]).any())
    return {
        "blocks": [],
        "starts_above_0": extent and extent[0] > 0,
        "has_targets": has_targets,
        "keys": _group_keys(series.groups) + [_TARGET_KEY] * has_targets,
        "numbers": _by_group(
            "Probability of each group, at the start → after the last update",
            run,
            series,
            lambda k, j: _moved(series, k, j),
        ),
    }


def rewards_facts(runs: Runs, figures: Figures) -> Facts:
    facts: Facts = {
        "of_datasets": any("global-reward" in figure for figure in figures),
        "of_groups": any("local-reward" in figure for figure in figures),
        "blocks": [],
        "why_none": "",
    }
    if len(runs) > 1:
        without = Markup(", ").join(name(shown.label) for shown in runs if not shown.series.measured)
        none = markup("Measured no rewards: {}", without) if without else ""
        return {**facts, "blocks": _blocks(runs, figures, "local-reward"), "why_none": none}
    run, series = runs[0].run, runs[0].series
    if not series.measured:
        is_static = len(run.lines) > 1 or run.metrics is not None
        why = "measures no rewards: its probabilities are frozen" if is_static else "has measured no rewards yet"
        return {**facts, "why_none": f"The run {why}"}
    if facts["of_datasets"]:
        facts["dataset_keys"] = _dataset_keys(runs)
        facts["every_update"] = _over_updates(
            run, series, series.reward_SK, lambda s, k: with_error(series.reward_SK[s, k], series.reward_se_SK[s, k])
        )
    if facts["of_groups"]:
        last = int(np.flatnonzero(np.isfinite(series.reward_SKL).any(axis=(1, 2)))[-1])
        facts["group_keys"] = _group_keys(series.groups)
        facts["inside"] = "of all groups" if is_flat(run.method) else "inside one dataset"
        facts["last"] = _by_group(
            f"Reward of each group at step {series.step_S[last]:,}, ± standard error",
            run,
            series,
            lambda k, j: with_error(series.reward_SKL[last, k, j], series.reward_se_SKL[last, k, j]),
        )
    return facts


def drawn_facts(runs: Runs, figures: Figures) -> Facts:
    seen = [epochs(shown.series.drawn_KL, shown.run.sizes, shown.run.datasets) for shown in runs]
    facts: Facts = {"often": MANY_PASSES, "repeated": list(map(_repeated, runs, seen))}
    if len(runs) > 1:
        rows = []
        for dataset, place in places(runs).items():
            cells = [_dataset_drawn(shown, seen_KL, dataset) for shown, seen_KL in zip(runs, seen, strict=True)]
            rows.append([marked(place, dataset), *cells])
        return {**facts, "counts": Grid("Rows drawn per dataset", ["Dataset", *labels_of(runs)], rows, "heat")}
    run, series = runs[0].run, runs[0].series
    total = float(series.drawn_KL.sum())
    if not total:
        return {**facts, "drawn_at_all": False}

    def whole(drawn: Floats, asked: Floats) -> Markup:
        return markup('<td class="count">{:,}{}</td>', int(drawn.sum()), _asked(drawn.sum(), asked.sum(), total))

    rows = []
    for k, dataset in enumerate(run.datasets):
        cells = [_group_drawn(series, seen[0], k, j) for j in range(series.groups)]
        rows.append([name(dataset), *cells, whole(series.drawn_KL[k], series.asked_KL[k])])
    columns = [whole(series.drawn_KL[:, j], series.asked_KL[:, j]) for j in range(series.groups)]
    everything = markup('<td class="count"><strong>{:,}</strong></td>', int(total))
    rows.append([Markup("<strong>All</strong>"), *columns, everything])
    until = f"up to step {series.step_S[-1]:,}, the last line of the ledger" if run.drawn_KL is None else "in all steps"
    return {
        **facts,
        "drawn_at_all": True,
        "until": until,
        "passes_known": np.isfinite(seen[0]).any(),
        "counts": Grid("Rows drawn per dataset and group", [*_group_head(series), "All groups"], rows, "heat"),
    }


def _repeated(shown: Shown, seen_KL: Floats) -> tuple[Markup, list[Markup], int]:
    """The run, its groups whose rows were seen very often, most often first, and how many more there are."""
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


def _dataset_drawn(shown: Shown, seen_KL: Floats, dataset: str) -> str:
    series, total = shown.series, float(shown.series.drawn_KL.sum())
    if dataset not in shown.run.datasets or total == 0:
        return MISSING
    k, most = shown.run.datasets.index(dataset), Markup("")
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


def _dataset_keys(runs: Runs) -> Keys:
    return [(f"d{place}", name(dataset)) for dataset, place in places(runs).items()]


def _group_keys(groups: int) -> Keys:
    return [(f"g{j}/{groups}", group_name(j, groups)) for j in evenly(groups, _LEGEND_GROUPS)]


def _have_targets(figures: Figures, kind: str) -> bool:
    found = [figure for key, figure in figures.items() if kind in key]
    return any(trace.get("target") for figure in found for trace in figure["traces"])


def _blocks(runs: Runs, figures: Figures, kind: str) -> list[dict[str, Any]]:
    """For each dataset that has any, its charts of a kind: pairs of a figure's id and its run."""
    found = []
    for dataset, place in places(runs).items():
        having = [shown for shown in runs if dataset in shown.run.datasets]
        charts = [(f"{s.prefix}{kind}-{s.run.datasets.index(dataset)}", s.label) for s in having]
        charts = [(figure, label) for figure, label in charts if figure in figures]
        found += [{"key": f"d{place}", "dataset": dataset, "charts": charts}] if charts else []
    return found


def _moves(runs: Runs, *, inside: bool) -> Grid:
    """The numbers behind the charts: each dataset's probability, or each group's `inside` its dataset."""
    rows = []
    for dataset, place in places(runs).items():
        at = [shown.run.datasets.index(dataset) if dataset in shown.run.datasets else None for shown in runs]
        levels = max(len(s.run.lines[0].q_KL[k]) for s, k in zip(runs, at, strict=True) if k is not None)
        for j in range(levels) if inside else [None]:
            cells = [_moved(shown.series, k, j) for shown, k in zip(runs, at, strict=True)]
            rows.append([marked(place, dataset) + ("" if j is None else f" g{j + 1}"), *cells])
    of = "of each group" if inside else "of each dataset"
    return Grid(f"Probability {of}, at the start → after the last update", ["", *labels_of(runs)], rows)


def _moved(series: Series, k: int | None, j: int | None) -> str:
    if k is None or (j is not None and j >= series.groups):
        return MISSING
    p_S = series.p_SK[:, k] if j is None else series.q_SKL[:, k, j]
    return Markup(" → ").join([number(p_S[0]), number(p_S[-1])])


def _by_group(caption: str, run: Run, series: Series, cell: Callable[[int, int], str]) -> Grid:
    exists = np.isfinite(series.q_SKL[0])
    rows = [
        [name(d), *(cell(k, j) if exists[k, j] else MISSING for j in range(series.groups))]
        for k, d in enumerate(run.datasets)
    ]
    return Grid(caption, _group_head(series), rows)


def _group_head(series: Series) -> list[str]:
    return ["Dataset", *(f"g{j + 1}" for j in range(series.groups))]


def _over_updates(run: Run, series: Series, measured_SK: Floats, cell: Callable[[int, int], str]) -> Grid:
    lines = np.flatnonzero(np.isfinite(measured_SK).any(axis=1))
    chosen = [int(lines[i]) for i in evenly(len(lines), _ROWS)]
    rows = [[f"{series.step_S[s]:,}", *(cell(s, k) for k in range(len(run.datasets)))] for s in chosen]
    caption = f"After step ({len(chosen)} of {len(lines)} lines of balance.jsonl)"
    return Grid(caption, ["Step", *map(name, run.datasets)], rows)
