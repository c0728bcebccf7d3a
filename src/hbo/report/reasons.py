"""Why the balancer did what it did, in plain words: the rewards it measured, against where it started."""

from __future__ import annotations

import numpy as np

from hbo.config.rewards import spec_of
from hbo.folder.run import Run
from hbo.report.summary import Show
from hbo.report.tables import Array, Tables
from hbo.report.targets import targets


def task(run: Run, series: Tables) -> str:
    """What the run was about, for someone who has never heard of it."""
    held = f"{len(run.datasets)} datasets at once" if len(run.datasets) > 1 else "one dataset"
    cut = f", each cut into {series.groups} groups from easy to hard" if series.groups > 1 else ""
    opening = f"A language model was fine-tuned on {held}{cut}."
    if run.is_static:
        return f"{opening} The shares in which their rows are drawn are fixed under method {run.method}."
    when = f"After every {run.update_every} steps" if run.update_every else "At intervals"
    return (
        f"{opening} {when} the balancer measured a reward for each, which says how much is still to be learnt from it, "
        "and moved the shares in which rows are drawn: the larger a reward, the more rows."
    )


def reasons(run: Run, series: Tables, show: Show = str) -> list[str]:
    """Up to two sentences: what pulled the datasets' shares, and the groups'; none where nothing was measured.

    Raises:
        Nothing.
    """
    aims = targets(run, series)
    found = []
    if len(run.datasets) > 1 and np.isfinite(aims.p_SK).any():
        found.append(_between(run, series.p_SK, aims.p_SK, show))
    if series.groups > 1 and np.isfinite(aims.q_SKL).any():
        found.append(_inside(run, series.q_SKL, aims.q_SKL, show))
    return found


def _between(run: Run, p_SK: Array, aim_SK: Array, show: Show) -> str:
    mean_K, change_K = np.nanmean(aim_SK, axis=0), p_SK[-1] - p_SK[0]
    parts = []
    for k in dict.fromkeys([int(np.argmax(change_K)), int(np.argmin(change_K))]):
        pulled = (mean_K[k] - p_SK[0, k]) * change_K[k] > 0  # the mean may say otherwise when rewards turned round
        moved = f", so it {'rose' if change_K[k] > 0 else 'fell'}" if pulled else ""
        parts.append(
            f"{show(run.datasets[k])} had {_percent(mean_K[k])} of all rewards on average, having begun with "
            f"{_percent(p_SK[0, k])} of the rows{moved}"
        )
    meaning = f" Here the reward is {_meaning(run.global_reward)}." if run.global_reward else ""
    return f"A dataset's share moves towards its share of the rewards: {'; '.join(parts)}.{meaning}"


def _inside(run: Run, q_SKL: Array, aim_SKL: Array, show: Show) -> str:
    change_KL = np.nan_to_num(q_SKL[-1] - q_SKL[0])
    k, j = np.unravel_index(int(np.argmax(change_KL)), change_KL.shape)
    mean = float(np.nanmean(aim_SKL[:, k, j])) if np.isfinite(aim_SKL[:, k, j]).any() else np.nan
    meaning = f" Of groups it is {_meaning(run.local_reward)}." if run.local_reward else ""
    had = ""
    if np.isfinite(mean):
        had = f": g{j + 1} of {show(run.datasets[int(k)])} had {_percent(mean)} of that dataset's rewards on average"
    return f"A group's share moves towards its share of its own dataset's rewards{had}.{meaning}"


def _meaning(reward: str) -> str:
    spec = spec_of(reward)
    return spec.meaning if spec else reward


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.2g} %"
