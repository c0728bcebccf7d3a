"""What the balancer did and why, in plain words, derived from what was recorded and nothing else.

S ledger lines, K datasets, L groups of a dataset.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hbo.arrays import Floats
from hbo.config.methods import is_placebo
from hbo.config.rewards import is_of_the_run, spec_of
from hbo.folder.run import Run
from hbo.report.series import Series, reward_shares
from hbo.text import counted

Show = Callable[[str], str]
"""How a name that a user chose is written into a sentence: escaped for a page, plain for a terminal."""

PAPER_NAMES = {"mu_ml": "μ_ML", "mu_mt": "μ_MT"}
"""The paper's names of its means over benchmarks."""


def axis_name(reward: str) -> str:
    """What an axis calls a reward: its name in plain words, `reward` where it isn't known.

    Example:
        >>> [axis_name(name) for name in ("gradient_norm", "ifd_ratio", "my.rewards:surprise", "")]
        ['gradient norm', 'IFD ratio', 'surprise', 'reward']
    """
    words = reward.rpartition(":")[2].split("_")
    return " ".join({"ifd": "IFD", "eos": "EOS", "dev": "set-aside"}.get(word, word) for word in words) or "reward"


def task(run: Run, series: Series) -> str:
    """What the run was about, for someone who has never heard of it."""
    held = f"{len(run.datasets)} datasets at once" if len(run.datasets) > 1 else "one dataset"
    cut = f", each cut into {series.groups} groups from easy to hard" if series.groups > 1 else ""
    opening = f"A language model was fine-tuned on {held}{cut}."
    if run.is_static:
        return f"{opening} Their shares of the rows drawn are fixed under method {run.method}."
    when = f"After every {run.update_every} steps" if run.update_every else "At intervals"
    if is_of_the_run(run.global_reward) and not run.local_reward:
        return (
            f"{opening} {when} a schedule moved each dataset's share of the rows towards an equal share, whatever the "
            "rows are. Nothing was measured: the run is a control to compare other runs with."
        )
    if is_placebo(run.method):
        return (
            f"{opening} {when} the balancer measured a reward for each, shuffled the rewards at random, and moved the "
            "shares of the rows by them: a placebo, which is a control to compare other runs with."
        )
    return (
        f"{opening} {when} the balancer measured a reward for each, which says how much is still to be learnt from it. "
        "Then it moved the shares: the larger a reward, the more rows are drawn."
    )


def reasons(run: Run, series: Series, show: Show = str) -> list[str]:
    """Up to two sentences: what pulled the datasets' shares, and the groups'; none where nothing was measured."""
    aim_SK, aim_SKL = reward_shares(run, series)
    found = []
    if len(run.datasets) > 1 and np.isfinite(aim_SK).any():
        found.append(_why_between(run, series.p_SK, aim_SK, show))
    if series.groups > 1 and np.isfinite(aim_SKL).any():
        found.append(_why_inside(run, series, aim_SKL, show))
    return found


def moved(run: Run, series: Series, show: Show = str) -> list[str]:
    """What became of the shares: between the datasets, and inside them."""
    updates = len(run.lines) - 1
    if updates == 0 and run.metrics is not None:
        return [f"The probabilities stayed as they were at the start, for all {run.steps} steps."]
    if updates == 0:
        return ["No update has been made yet: rows are drawn with the probabilities of the start."]
    if not series.moved:
        return [f"The probabilities stayed as they were at the start, for all {series.step_S[-1]} steps recorded."]
    opening = f"Over {counted(updates, 'update')}, "
    return [f"{opening}{_between(run, series.p_SK, show)}.", f"{_inside(series)}."]


def _between(run: Run, p_SK: Floats, show: Show) -> str:
    if len(run.datasets) == 1:
        return f"only the groups of {show(run.datasets[0])} were balanced, since it is the only dataset"
    change_K = p_SK[-1] - p_SK[0]
    parts = []
    for k, verb in ((int(np.argmax(change_K)), "rose"), (int(np.argmin(change_K)), "fell")):
        if (change_K[k] > 0) == (verb == "rose") and (span := _span(p_SK[0, k], p_SK[-1, k])):
            parts.append(f"{show(run.datasets[k])} {verb} most, from {span}")
    if not parts:
        largest = _rounded_up(float(np.abs(change_K).max()))
        tail = "" if not np.any(change_K) else f" (none moved by more than {largest} points)"
        return f"the share of each dataset stayed as it was{tail}"
    return f"{' and '.join(parts)} of the rows asked for"


def _inside(series: Series) -> str:
    if series.groups == 1:
        return "No dataset is cut into groups"
    change_KL = series.q_SKL[-1] - series.q_SKL[0]
    if not np.any(np.nan_to_num(change_KL)):
        return "Inside the datasets, every group kept its share"
    level = int(np.nanargmax(np.nanmean(change_KL, axis=0)))
    first, last = (float(np.nanmean(series.q_SKL[s, :, level])) for s in (0, -1))
    bound = f"no group's share is more than {_rounded_up(float(np.nanmax(np.abs(change_KL))))} points from its start"
    span = _span(first, last)
    if not span or not stands_out(series, level):
        return (
            "Inside the datasets, the groups kept about their shares: none gained beyond the error of its rewards, "
            f"and {bound}"
        )
    where = {0: ", the easiest,", series.groups - 1: ", the hardest,"}.get(level, "")
    return f"Inside the datasets, g{level + 1}{where} gained most (on average from {span}); {bound}"


def stands_out(series: Series, level: int) -> bool:
    """Whether the rewards of a group, over all updates and datasets, exceed those of the others by two errors.

    True where the rewards have no errors: then nothing speaks against what was seen.
    """
    reward_SKL, error_SKL = series.reward_SKL, series.reward_se_SKL
    known_SK = np.isfinite(reward_SKL).all(axis=-1) & np.isfinite(error_SKL).all(axis=-1)
    if not known_SK.any() or series.groups == 1:
        return True
    reward_NL, error_NL = reward_SKL[known_SK], error_SKL[known_SK]
    mean_N = np.abs(reward_NL.mean(axis=1, keepdims=True))
    scale_N = np.where(mean_N > 0, mean_N, 1.0)
    share_NL, spread_NL = reward_NL / scale_N, error_NL / scale_N
    others = [j for j in range(series.groups) if j != level]
    gain = float((share_NL[:, level] - share_NL[:, others].mean(axis=1)).mean())
    variance_N = spread_NL[:, level] ** 2 + (spread_NL[:, others] ** 2).sum(axis=1) / len(others) ** 2
    return gain > 2 * float(np.sqrt(variance_N.sum())) / len(variance_N)


def _why_between(run: Run, p_SK: Floats, aim_SK: Floats, show: Show) -> str:
    mean_K, change_K = np.nanmean(aim_SK, axis=0), p_SK[-1] - p_SK[0]
    parts = []
    for k in dict.fromkeys([int(np.argmax(change_K)), int(np.argmin(change_K))]):
        pulled = (mean_K[k] - p_SK[0, k]) * change_K[k] > 0  # the mean may say otherwise when rewards turned round
        moved = f", so it {'rose' if change_K[k] > 0 else 'fell'}" if pulled else ""
        parts.append(
            f"{show(run.datasets[k])} had {_percent(mean_K[k])} of all rewards on average and began with "
            f"{_percent(p_SK[0, k])} of the rows{moved}"
        )
    meaning = f" Here the reward is {_meaning(run.global_reward, show)}." if run.global_reward else ""
    return f"A dataset's share moves towards its share of the rewards: {'; '.join(parts)}.{meaning}"


def _why_inside(run: Run, series: Series, aim_SKL: Floats, show: Show) -> str:
    change_KL = np.nan_to_num(series.q_SKL[-1] - series.q_SKL[0])
    k, j = map(int, np.unravel_index(int(np.argmax(change_KL)), change_KL.shape))
    had = ""
    if not stands_out(series, j):
        had = "; no group's rewards differ from the others' by more than their error"
    elif np.isfinite(aim_SKL[:, k, j]).any():
        mean = _percent(float(np.nanmean(aim_SKL[:, k, j])))
        had = f": g{j + 1} of {show(run.datasets[k])} had {mean} of that dataset's rewards on average"
    meaning = f" For groups, it is {_meaning(run.local_reward, show)}." if run.local_reward else ""
    return f"A group's share moves towards its share of its own dataset's rewards{had}.{meaning}"


def _meaning(reward: str, show: Show) -> str:
    spec = spec_of(reward)
    return spec.meaning if spec else show(reward)  # one of a user's own has a name that the user chose


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.01 else f"{100 * share:.2g}%"


def _span(first: float, last: float) -> str:
    """From one share to the other, in percent; nothing where both would be written alike."""
    digits = 2 if min(first, last) < 0.01 else 1
    ends = [f"{100 * share:.{digits}f}" for share in (first, last)]
    return "" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}%"


def _rounded_up(share: float) -> str:
    # Rounded up, or the claim "by no more than" would be false.
    return f"{np.ceil(share * 1000 - 1e-9) / 10:.1f}"
