"""What the balancer did, in plain words, derived from what was recorded and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hbo.folder.metrics import Metrics
from hbo.folder.run import Run
from hbo.report.tables import Array, Tables

Show = Callable[[str], str]
"""How a dataset's name is written into a sentence: escaped for a page, plain for a terminal."""


def summary(run: Run, series: Tables, show: Show = str) -> list[str]:
    """One to three sentences: what happened between datasets, inside them, and to the held-out loss."""
    sentences = _policy(run, series, show)
    if run.metrics and run.metrics.after:
        sentences.append(_held_out(run.metrics, show))
    return sentences


def _policy(run: Run, series: Tables, show: Show) -> list[str]:
    updates = len(run.lines) - 1
    if updates == 0 and run.metrics is not None:
        return [f"The probabilities stayed as they were at the start, for all {run.steps} steps."]
    if updates == 0:
        return ["No update has been made yet: rows are drawn with the probabilities of the start."]
    if not series.moved:
        return [f"The probabilities stayed as they were at the start, for all {series.step_S[-1]} steps recorded."]
    opening = f"Over {updates} update{'s' if updates > 1 else ''}, "
    return [opening + _between(run, series.p_SK, show) + ".", _inside(series) + "."]


def _between(run: Run, p_SK: Array, show: Show) -> str:
    if len(run.datasets) == 1:
        return f"only the groups of {show(run.datasets[0])} were balanced, as it is the one dataset"
    change_K = p_SK[-1] - p_SK[0]
    if not np.any(change_K):
        return "the share of each dataset stayed as it was"
    parts = []
    for k, verb in ((int(np.argmax(change_K)), "rose"), (int(np.argmin(change_K)), "fell")):
        first, last = p_SK[0, k], p_SK[-1, k]
        if (last > first) == (verb == "rose") and last != first:
            parts.append(f"{show(run.datasets[k])} {verb} most, from {_span(first, last)} of the rows asked for")
    return " and ".join(parts).replace(" of the rows asked for", "", len(parts) - 1)


def _inside(series: Tables) -> str:
    if series.groups == 1:
        return "No dataset is cut into groups"
    change_KL = series.q_SKL[-1] - series.q_SKL[0]
    if not np.any(np.nan_to_num(change_KL)):
        return "Inside the datasets, every group kept its share"
    change_L = np.nanmean(change_KL, axis=0)
    level = int(np.nanargmax(change_L))
    first, last = (float(np.nanmean(series.q_SKL[s, :, level])) for s in (0, -1))
    where = {0: ", the easiest,", series.groups - 1: ", the hardest,"}.get(level, "")
    largest = float(np.nanmax(np.abs(change_KL)))
    return (
        f"Inside the datasets, g{level + 1}{where} gained most (on average from {_span(first, last, 3)}); "
        f"at the end no group's share was more than {_ceil(largest)} from where it began"
    )


def _held_out(metrics: Metrics, show: Show) -> str:
    before, after = metrics.macro_before, metrics.macro_nll
    if after is None:
        after = float(np.mean([score.nll for score in metrics.after.values()]))
    if before is None:
        return f"The mean held-out loss (macro NLL) after training is {after:.2f}; it wasn't measured before."
    verb = "fell" if after < before else "rose" if after > before else "stayed at"
    share = f" ({100 * (after / before - 1):+.1f} %)".replace("-", "−") if before > 0 else ""
    change = f"{verb} {after:.2f}" if verb == "stayed at" else f"{verb} from {_span(before, after)}{share}"
    both = [name for name in metrics.after if name in metrics.before]
    worse = [name for name in both if metrics.after[name].nll > metrics.before[name].nll]
    if not worse:
        tail = "no dataset got worse" if len(both) > 1 else ""
    elif len(worse) <= 3:
        tail = f"{' and '.join(show(name) for name in worse)} got worse"
    else:
        tail = f"{len(worse)} of {len(both)} datasets got worse"
    return f"The mean held-out loss (macro NLL) {change}{'; ' + tail if tail else ''}."


def _span(first: float, last: float, digits: int = 2) -> str:
    # As many digits as it takes to show that something moved, and that a small share isn't nothing.
    while (
        digits < 6
        and first != last
        and (f"{first:.{digits}f}" == f"{last:.{digits}f}" or 0 < min(first, last) < 10.0**-digits)
    ):
        digits += 1
    return f"{first:.{digits}f} to {last:.{digits}f}"


def _ceil(value: float) -> str:
    # Rounded up, or the claim "by no more than" would be false.
    digits = 3
    while digits < 9 and round(value, digits) == 0:
        digits += 1
    return f"{np.ceil(value * 10**digits - 1e-9) / 10**digits:.{digits}f}"
