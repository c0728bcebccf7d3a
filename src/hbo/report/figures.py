"""The series that the page's script draws: plain JSON, without colours (the colour scheme decides them).

A figure is `{"x", "y", "zero", "range", "traces"}`, a trace `{"key", "name", "x", "y", …}`; `key` says
how it looks: `d3` dataset 3, `g0/4` the first of four groups, `overall`, `reference`. A policy holds from its marker
to the next, and the last one `until` the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hbo.folder.run import Run
from hbo.report.markup import DASHES, SYMBOLS, label, look
from hbo.report.tables import Array, Tables, averaged, evenly
from hbo.report.targets import targets

Figure = dict[str, Any]
# Points per chart are cut down so that a page of a long run of many datasets stays light.
BUDGET = 14_000


def figures(
    run: Run, series: Tables, budget: int = BUDGET, places: Mapping[str, int] | None = None
) -> dict[str, Figure]:
    """Every figure of the page by its id.

    Args:
        run: What is drawn.
        series: Its ledger.
        budget: Points per kind of chart.
        places: Dataset → its place among the colours, where several runs share them; absent: its place in the run.

    Raises:
        Nothing.
    """
    shown = evenly(len(run.lines), _most(series.p_SK.shape[1] * (1 + series.groups), 500, budget))
    keys = [k if places is None else places[name] for k, name in enumerate(run.datasets)]
    aims = targets(run, series)
    found = {"global-p": _global_policy(run, series, shown, keys, aims.p_SK)}
    if np.isfinite(series.reward_SK).any():
        found["global-reward"] = _global_reward(run, series, shown, keys)
    ranges = (
        _extent(np.stack([series.q_SKL, aims.q_SKL]), shares=True),
        _extent(series.reward_SKL, series.reward_se_SKL),
    )
    for k in range(len(run.datasets)):
        found[f"local-p-{k}"] = _local_policy(series, k, shown, ranges[0], aims.q_SKL, run.steps)
        if np.isfinite(series.reward_SKL).any():
            found[f"local-reward-{k}"] = _local_reward(series, k, shown, ranges[1])
    if loss := _loss(run, keys, budget):
        found["loss"] = loss
    for figure in found.values():  # one axis of steps for all, or a chart would end where the last update was
        figure["until"] = run.steps
    return found


def _global_policy(run: Run, series: Tables, shown: list[int], keys: list[int], aim_SK: Array) -> Figure:
    x = _steps(series, shown)
    policies = [
        _dataset(run, k, keys, x, series.p_SK[shown, k]) | {"hold": True, "until": run.steps}
        for k in range(len(run.datasets))
    ]
    aims = [
        _dataset(run, k, keys, x, aim_SK[shown, k]) | {"target": True}
        for k in range(len(run.datasets))
        if len(run.datasets) > 1 and np.isfinite(aim_SK[shown, k]).any()
    ]
    return _figure("sampling probability", policies + aims, zero=True)


def _global_reward(run: Run, series: Tables, shown: list[int], keys: list[int]) -> Figure:
    x = _steps(series, shown)
    traces = [
        _dataset(run, k, keys, x, series.reward_SK[shown, k]) | _error(series.reward_se_SK[shown, k])
        for k in range(len(run.datasets))
    ]
    return _figure("reward", traces, zero=bool(np.nanmin(series.reward_SK) >= 0))


def _local_policy(
    series: Tables, k: int, shown: list[int], extent: list[float] | None, aim_SKL: Array, until: int
) -> Figure:
    x, levels = _steps(series, shown), _levels(series, k)
    traces = [_group(j, levels, x, series.q_SKL[shown, k, j]) | {"hold": True, "until": until} for j in range(levels)]
    aims = [
        _group(j, levels, x, aim_SKL[shown, k, j]) | {"target": True}
        for j in range(levels)
        if levels > 1 and np.isfinite(aim_SKL[shown, k, j]).any()
    ]
    uniform = {"key": "reference", "name": "uniform", "x": [x[0], until], "y": [_round(1 / levels)] * 2}
    return _figure("probability", [uniform, *traces, *aims], extent=extent)


def _local_reward(series: Tables, k: int, shown: list[int], extent: list[float] | None) -> Figure:
    x, levels = _steps(series, shown), _levels(series, k)
    traces = [
        _group(j, levels, x, series.reward_SKL[shown, k, j]) | _error(series.reward_se_SKL[shown, k, j])
        for j in range(levels)
    ]
    return _figure("reward", traces, extent=extent)


def _loss(run: Run, keys: list[int], budget: int) -> Figure | None:
    if run.training is None:
        return None
    most = _most(1 + len(run.datasets), 1000, budget)
    traces: list[Figure] = []
    steps, values = averaged(*run.training.series("loss"), most)
    if steps:
        traces.append({"key": "overall", "name": "all datasets", "x": steps, "y": _rounded(values), "plain": True})
    for k, name in enumerate(run.datasets):
        steps, values = averaged(*run.training.series(f"loss/{name}"), most)
        if steps:
            traces.append(_dataset(run, k, keys, steps, values) | {"plain": len(steps) > 60})
    return _figure("training loss (nats per token)", traces) if traces else None


def _figure(y: str, traces: list[Figure], zero: bool = False, extent: list[float] | None = None) -> Figure:
    return {"x": "optimizer step", "y": y, "zero": zero, "range": extent, "traces": traces}


def _dataset(run: Run, k: int, keys: list[int], x: Sequence[int], y: Sequence[float] | Array) -> Figure:
    colour, dash, symbol = look(keys[k])
    return {
        "key": f"d{keys[k]}",
        "name": label(run.datasets[k]),
        "x": list(x),
        "y": _rounded(y),
        "colour": colour,
        "dash": DASHES[dash],
        "symbol": SYMBOLS[symbol],
    }


def _group(j: int, levels: int, x: list[int], y: Array) -> Figure:
    symbol = SYMBOLS[j % len(SYMBOLS)]
    return {"key": f"g{j}/{levels}", "name": f"g{j + 1}", "x": x, "y": _rounded(y), "symbol": symbol}


def _error(values: Array) -> Figure:
    return {"se": _rounded(values)} if np.isfinite(values).any() else {}


def _steps(series: Tables, shown: list[int]) -> list[int]:
    return [int(step) for step in series.step_S[shown]]


def _levels(series: Tables, k: int) -> int:
    return int(np.isfinite(series.q_SKL[0, k]).sum())


def _most(series: int, limit: int, budget: int) -> int:
    return max(30, min(limit, budget // series))


def _extent(values: Array, errors: Array | None = None, shares: bool = False) -> list[float] | None:
    # One range for all small charts, or their eyes would compare what can't be compared.
    spread = np.zeros_like(values) if errors is None else np.nan_to_num(errors)
    seen = np.isfinite(values)
    if not seen.any():
        return None
    low, high = float((values - spread)[seen].min()), float((values + spread)[seen].max())
    # A frozen policy is drawn as a line in the middle, not as noise blown up.
    margin = max(0.08 * (high - low), 0.05 * max(abs(low), abs(high)))
    if shares and low - margin < 0.1 * high:  # so near to 0 that the axis may as well begin there
        return [0.0, _round(high + margin) or 0.0]
    return [_round(low - margin) or 0.0, _round(high + margin) or 0.0]


def _rounded(values: Sequence[float] | Array) -> list[float | None]:
    return [_round(float(value)) for value in values]


def _round(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
