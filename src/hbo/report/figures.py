"""The series that the page's script draws: plain JSON, with the style sheet's names of colours.

A figure is `{"x", "y", "zero", "percent", "range", "until", "traces"}`, a trace `{"key", "name", "x", "y", …}`; `key`
says how it looks: `d3` dataset 3, `g0/4` the first of four groups, `overall`, `reference`. A policy holds from its
marker to the next, and the last one `until` the end.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hbo.arrays import Floats
from hbo.folder.run import Run
from hbo.report.markup import DASHES, SYMBOLS, group_tint, label, series_look
from hbo.report.series import Shown, averaged, evenly, places, reward_shares
from hbo.report.words import axis_name

Figure = dict[str, Any]
# Points per kind of chart are cut down so that a page of a long run of many datasets stays light.
_BUDGET = 10_000
_KINDS = ("global-p", "local-p", "global-reward", "local-reward", "loss")


def drawings(runs: Sequence[Shown]) -> dict[str, Figure]:
    """Every figure of every run by its id: `global-p`, or of several runs `r0-global-p` for the first.

    Of several runs, the figures of a kind have one vertical axis: those of rewards where the runs measured the same.
    """
    colours = places(runs)
    found: dict[str, Figure] = {}
    for shown in runs:
        drawn = _of_run(shown, [colours[name] for name in shown.run.datasets], _BUDGET // len(runs))
        found |= {f"{shown.prefix}{key}": figure for key, figure in drawn.items()}
    for kind in _KINDS if len(runs) > 1 else ():
        # One axis for what is of one scale, or the eye would compare what can't be compared.
        alike: defaultdict[str, list[Figure]] = defaultdict(list)
        for shown in runs:
            scale = {"global-reward": shown.run.global_reward, "local-reward": shown.run.local_reward}.get(kind, "")
            alike[scale] += [figure for key, figure in found.items() if key.startswith(f"{shown.prefix}{kind}")]
        for figures in alike.values():
            extent = _shared_extent(figures)
            for figure in figures:
                figure |= {"range": extent, "until": max(shown.run.steps for shown in runs)}
    return found


def _of_run(shown: Shown, colours: Sequence[int], budget: int) -> dict[str, Figure]:
    run, series = shown.run, shown.series
    thinned = evenly(len(run.lines), _most(series.p_SK.shape[1] * (1 + series.groups), 500, budget))
    steps = [int(step) for step in series.step_S[thinned]]
    aim_SK, aim_SKL = reward_shares(run, series)
    datasets = [_dataset(name, place) for name, place in zip(run.datasets, colours, strict=True)]
    policies = _policies(datasets, steps, series.p_SK[thinned], aim_SK[thinned], run.steps)
    found = {"global-p": _figure("share of the rows", policies, zero=True, percent=True)}
    if np.isfinite(series.reward_SK).any():
        measured = _measured(datasets, steps, series.reward_SK[thinned], series.reward_se_SK[thinned])
        found["global-reward"] = _figure(
            axis_name(run.global_reward), measured, zero=bool(np.nanmin(series.reward_SK) >= 0)
        )
    # One range for all small charts, or their eyes would compare what can't be compared.
    extent = _extent(np.stack([series.q_SKL, aim_SKL]), shares=True)
    reward_extent = _extent(series.reward_SKL, series.reward_se_SKL)
    for k in range(len(run.datasets)):
        levels = int(np.isfinite(series.q_SKL[0, k]).sum())
        groups = [_group(j, levels) for j in range(levels)]
        even = {"key": "reference", "name": "uniform", "x": [steps[0], run.steps], "y": [_round(1 / levels)] * 2}
        policies = _policies(groups, steps, series.q_SKL[thinned, k], aim_SKL[thinned, k], run.steps)
        found[f"local-p-{k}"] = _figure("share of its rows", [even, *policies], extent=extent, percent=True)
        if np.isfinite(series.reward_SKL).any():
            measured = _measured(groups, steps, series.reward_SKL[thinned, k], series.reward_se_SKL[thinned, k])
            found[f"local-reward-{k}"] = _figure(axis_name(run.local_reward), measured, extent=reward_extent)
    if losses := list(_losses(run, datasets, budget)):
        found["loss"] = _figure("training loss (nats per token)", losses)
    for figure in found.values():  # one axis of steps for all, or a chart would end where the last update was
        figure["until"] = run.steps
    return found


def _policies(choices: Sequence[Figure], steps: list[int], p_SC: Floats, aim_SC: Floats, until: int) -> list[Figure]:
    """The probabilities of some choices (datasets, or groups), and where their rewards pull them."""
    held = [c | {"x": steps, "y": _rounded(p_SC[:, i]), "hold": True, "until": until} for i, c in enumerate(choices)]
    aims = [
        choice | {"x": steps, "y": _rounded(aim_SC[:, i]), "target": True}
        for i, choice in enumerate(choices)
        if len(choices) > 1 and np.isfinite(aim_SC[:, i]).any()
    ]
    return held + aims


def _measured(choices: Sequence[Figure], steps: list[int], reward_SC: Floats, se_SC: Floats) -> list[Figure]:
    errors = [{"se": _rounded(se_S)} if np.isfinite(se_S).any() else {} for se_S in se_SC.T]
    return [choice | {"x": steps, "y": _rounded(reward_SC[:, i])} | errors[i] for i, choice in enumerate(choices)]


def _losses(run: Run, datasets: Sequence[Figure], budget: int) -> Iterable[Figure]:
    if run.training is None:
        return
    most = _most(1 + len(datasets), 1000, budget)
    overall = {"key": "overall", "name": "all datasets"}
    for logged, choice in zip(["loss", *(f"loss/{name}" for name in run.datasets)], [overall, *datasets], strict=True):
        steps, values = averaged(*run.training.series(logged), most)
        if steps:
            yield choice | {"x": steps, "y": _rounded(values), "plain": choice is overall or len(steps) > 60}


def _figure(
    y: str, traces: list[Figure], *, zero: bool = False, extent: list[float] | None = None, percent: bool = False
) -> Figure:
    return {"x": "optimizer step", "y": y, "zero": zero, "percent": percent, "range": extent, "traces": traces}


def _dataset(name: str, place: int) -> Figure:
    colour, dash, symbol = series_look(place)
    looks = {"colour": colour, "dash": DASHES[dash], "symbol": SYMBOLS[symbol]}
    return {"key": f"d{place}", "name": label(name), **looks}


def _group(j: int, levels: int) -> Figure:
    return {
        "key": f"g{j}/{levels}",
        "name": f"g{j + 1}",
        "symbol": SYMBOLS[j % len(SYMBOLS)],
        "tint": group_tint(j, levels),
    }


def _most(series: int, limit: int, budget: int) -> int:
    return max(30, min(limit, budget // series))


def _extent(values: Floats, errors: Floats | None = None, shares: bool = False) -> list[float] | None:
    spread = np.zeros_like(values) if errors is None else np.nan_to_num(errors)
    seen = np.isfinite(values)
    if not seen.any():
        return None
    low, high = float((values - spread)[seen].min()), float((values + spread)[seen].max())
    # A frozen policy is drawn as a line in the middle, not as noise blown up.
    margin = max(0.08 * (high - low), 0.05 * max(abs(low), abs(high)))
    # Shares that come so near to 0 that the axis may as well begin there.
    bottom = 0.0 if shares and low - margin < 0.1 * high else low - margin
    return [_round(bottom) or 0.0, _round(high + margin) or 0.0]


def _shared_extent(alike: Sequence[Figure]) -> list[float] | None:
    """The range that holds all of these figures, from 0 where they begin there themselves."""
    given = [figure["range"] for figure in alike if figure["range"]]
    if given:
        return [min(low for low, _ in given), max(high for _, high in given)]
    ends: list[float] = []
    for trace in (trace for figure in alike for trace in figure["traces"]):
        spread = trace.get("se") or [None] * len(trace["y"])
        for y, error in zip(trace["y"], spread, strict=True):
            ends += [] if y is None else [y - (error or 0.0), y + (error or 0.0)]
    if not ends:
        return None
    low, high = min(ends), max(ends)
    margin = 0.05 * (high - low) or 0.05
    return [0.0 if all(figure["zero"] for figure in alike) else low - margin, high + margin]


def _rounded(values: Sequence[float] | Floats) -> list[float | None]:
    return [_round(float(value)) for value in values]


def _round(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
