"""What the balancer did and why, in plain words, derived from what was recorded and nothing else.

S ledger lines, K datasets, L groups of a dataset.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hbo.arrays import Floats
from hbo.config.rewards import spec_of
from hbo.folder.metrics import Metrics
from hbo.folder.run import Run
from hbo.report.series import Series, reward_shares

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
        return f"{opening} The shares in which their rows are drawn are fixed under method {run.method}."
    when = f"After every {run.update_every} steps" if run.update_every else "At intervals"
    return (
        f"{opening} {when} the balancer measured a reward for each, which says how much is still to be learnt from it, "
        "and moved the shares in which rows are drawn: the larger a reward, the more rows."
    )


def summary(run: Run, series: Series, show: Show = str) -> list[str]:
    """One to three sentences: what happened between datasets, inside them, and to the held-out loss."""
    sentences = moved(run, series, show)
    if run.metrics and run.metrics.after:
        sentences.append(_held_out(run.metrics, show))
    return sentences


def reasons(run: Run, series: Series, show: Show = str) -> list[str]:
    """Up to two sentences: what pulled the datasets' shares, and the groups'; none where nothing was measured."""
    aim_SK, aim_SKL = reward_shares(run, series)
    found = []
    if len(run.datasets) > 1 and np.isfinite(aim_SK).any():
        found.append(_why_between(run, series.p_SK, aim_SK, show))
    if series.groups > 1 and np.isfinite(aim_SKL).any():
        found.append(_why_inside(run, series.q_SKL, aim_SKL, show))
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
    opening = f"Over {updates} update{'s' if updates > 1 else ''}, "
    return [f"{opening}{_between(run, series.p_SK, show)}.", f"{_inside(series)}."]


def _between(run: Run, p_SK: Floats, show: Show) -> str:
    if len(run.datasets) == 1:
        return f"only the groups of {show(run.datasets[0])} were balanced, as it is the one dataset"
    change_K = p_SK[-1] - p_SK[0]
    if not np.any(change_K):
        return "the share of each dataset stayed as it was"
    parts = []
    for k, verb in ((int(np.argmax(change_K)), "rose"), (int(np.argmin(change_K)), "fell")):
        if change_K[k] and (change_K[k] > 0) == (verb == "rose"):
            parts.append(f"{show(run.datasets[k])} {verb} most, from {_span(p_SK[0, k], p_SK[-1, k])}")
    return f"{' and '.join(parts)} of the rows asked for"


def _inside(series: Series) -> str:
    if series.groups == 1:
        return "No dataset is cut into groups"
    change_KL = series.q_SKL[-1] - series.q_SKL[0]
    if not np.any(np.nan_to_num(change_KL)):
        return "Inside the datasets, every group kept its share"
    level = int(np.nanargmax(np.nanmean(change_KL, axis=0)))
    first, last = (float(np.nanmean(series.q_SKL[s, :, level])) for s in (0, -1))
    where = {0: ", the easiest,", series.groups - 1: ", the hardest,"}.get(level, "")
    largest = float(np.nanmax(np.abs(change_KL)))
    return (
        f"Inside the datasets, g{level + 1}{where} gained most (on average from {_span(first, last, 3)}); "
        f"at the end no group's share was more than {_rounded_up(largest)} from where it began"
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
        tail = "; no dataset got worse" if len(both) > 1 else ""
    elif len(worse) <= 3:
        tail = f"; {' and '.join(show(name) for name in worse)} got worse"
    else:
        tail = f"; {len(worse)} of {len(both)} datasets got worse"
    return f"The mean held-out loss (macro NLL) {change}{tail}."


def _why_between(run: Run, p_SK: Floats, aim_SK: Floats, show: Show) -> str:
    mean_K, change_K = np.nanmean(aim_SK, axis=0), p_SK[-1] - p_SK[0]
    parts = []
    for k in dict.fromkeys([int(np.argmax(change_K)), int(np.argmin(change_K))]):
        pulled = (mean_K[k] - p_SK[0, k]) * change_K[k] > 0  # the mean may say otherwise when rewards turned round
        moved = f", so it {'rose' if change_K[k] > 0 else 'fell'}" if pulled else ""
        parts.append(
            f"{show(run.datasets[k])} had {_percent(mean_K[k])} of all rewards on average, having begun with "
            f"{_percent(p_SK[0, k])} of the rows{moved}"
        )
    meaning = f" Here the reward is {_meaning(run.global_reward, show)}." if run.global_reward else ""
    return f"A dataset's share moves towards its share of the rewards: {'; '.join(parts)}.{meaning}"


def _why_inside(run: Run, q_SKL: Floats, aim_SKL: Floats, show: Show) -> str:
    change_KL = np.nan_to_num(q_SKL[-1] - q_SKL[0])
    k, j = map(int, np.unravel_index(int(np.argmax(change_KL)), change_KL.shape))
    had = ""
    if np.isfinite(aim_SKL[:, k, j]).any():
        mean = _percent(float(np.nanmean(aim_SKL[:, k, j])))
        had = f": g{j + 1} of {show(run.datasets[k])} had {mean} of that dataset's rewards on average"
    meaning = f" Of groups it is {_meaning(run.local_reward, show)}." if run.local_reward else ""
    return f"A group's share moves towards its share of its own dataset's rewards{had}.{meaning}"


def _meaning(reward: str, show: Show) -> str:
    spec = spec_of(reward)
    return spec.meaning if spec else show(reward)  # one of a user's own has a name that the user chose


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.2g} %"


def _span(first: float, last: float, digits: int = 2) -> str:
    # As many digits as it takes to show that something moved, and that a small share isn't nothing.
    while (
        digits < 6
        and first != last
        and (f"{first:.{digits}f}" == f"{last:.{digits}f}" or 0 < min(first, last) < 10.0**-digits)
    ):
        digits += 1
    return f"{first:.{digits}f} to {last:.{digits}f}"


def _rounded_up(value: float) -> str:
    # Rounded up, or the claim "by no more than" would be false.
    digits = 3
    while digits < 9 and round(value, digits) == 0:
        digits += 1
    return f"{np.ceil(value * 10**digits - 1e-9) / 10**digits:.{digits}f}"
