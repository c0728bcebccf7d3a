"""What the latest rows of a dataset have lowered its own loss by: method and reward `gain` (ours).

**What to aim at.** As in `hbo.rewards.slope`: the mean loss over datasets is least if rows are drawn by

    R_i = −n_i ∂L_i/∂n_i = −∂L_i/∂(log n_i)        what one percent more rows lower the loss by, in hundredths.

Every law of loss is straight in log n for a while, so no law is fitted: R is the slope of the latest measurements of L
against log n, by least squares with weights ∝ (rows drawn in all)², half of which lie on the last fifth of the run so
far. The untuned model is left out: what the first rows teach is the format of answers, and says little about the rest.

**Noise.** Losses of a few rows set aside, after a few dozen steps, are mostly noise, and so are their slopes. What is
known before looking is that little can be gained where the loss is low. So a dataset is expected to gain m_i, in
proportion to its loss, but that a loss above the mean promises no more than the mean, since it may stay there. The
scale of m is the mean slope that is seen, or half a standard error if that is more, and each m_i may be off by 0.7 of
itself. A slope b_i with standard error s_i then says, by Bayes' rule,

    R_i = m_i + λ_i (b_i − m_i),    λ_i = (0.7 m_i)² / ((0.7 m_i)² + s_i²),    b_i between 0 and L_i

so that after a single measurement rows are drawn by m, and later by what was seen. The errors are those of the fit,
with one variance for all datasets, to which three measurements are added that are off by 0.5% of the mean loss: two or
three points can't tell how noisy they are.

**What is forgotten.** A loss may be flat only because the dataset's rows keep it there, which no slope shows before
they are missing. So no dataset is expected to gain less than a third of what the mean one does, and rewards that are
less than a third of the mean are raised to that.

**Copies and repeats** don't show in losses, or when it is too late: see `hbo.rewards.supply`. Datasets that share rows
divide what they get, and none gets more than it can still give.

Transfer between datasets is not looked for: it can't be told from chance with the measurements that a fine-tuning run
has (`slope` tries). The method uses HBO's perplexity ratio for the groups, which turns away from wrong answers.

Graves et al. 2017, "Automated Curriculum Learning for Neural Networks" (arXiv 1704.03003), call the fall of a loss
*prediction gain*, and reward single steps with it.

S measurements since training began, K datasets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hbo.arrays import Floats
from hbo.rewards.passes import Sets
from hbo.rewards.slope import dev_losses, is_untold

_SPREAD = 0.7  # of what is expected
_NOISE, _TIMES = 0.005, 3  # of the mean loss, as if measured so often
_LEAST = 1 / 3  # of the mean
_FLAT = 1e-20  # a spread of log n that is none, but for rounding
_TINY = float(np.finfo(float).tiny)


def gain(model: nn.Module, sets: Sets) -> Floats:
    """The reward of each dataset (K,), which is the share to draw it by; NaN on the untuned model."""
    assert sets.past is not None and sets.supply is not None
    drawn_SK, loss_SK = sets.past.note(dev_losses(model, sets))
    if is_untold(drawn_SK):
        return np.full(drawn_SK.shape[1], np.nan)
    return sets.supply.limited(sets.supply.divided(gains(drawn_SK[1:], loss_SK[1:])))


def gains(drawn_SK: Floats, loss_SK: Floats) -> Floats:
    """How much one percent more rows of each dataset would lower its loss (K,), up to a common factor.

    Args:
        drawn_SK: Rows drawn of each dataset until each measurement.
        loss_SK: The losses then; NaN where one couldn't be measured.

    Example: a loss that falls, one that doesn't, and one that has come to 0.
        >>> drawn = np.array([[10, 10, 10], [20, 20, 20], [30, 30, 30], [40, 40, 40], [50, 50, 50]])
        >>> falls = 4 - 0.4 * np.log(drawn[:, 0])
        >>> loss = np.stack([falls, 4 + 0 * falls, [0.2, 0.03, 0.01, 0.01, 0.01]], axis=1)
        >>> share = gains(drawn, loss) / gains(drawn, loss).sum()
        >>> bool(share[0] > 0.55)
        True
    """
    is_known_K: NDArray[np.bool_] = np.isfinite(loss_SK[-1])
    now_K = loss_SK[-1, is_known_K]
    if not now_K.any():
        return np.ones(len(is_known_K))
    all_known_S: NDArray[np.bool_] = np.all(np.isfinite(loss_SK[:, is_known_K]), axis=1)
    drawn_SK, loss_SK = drawn_SK[all_known_S], loss_SK[all_known_S]
    expected_K = np.clip(now_K, _LEAST * now_K.mean(), now_K.mean())
    reward_K = expected_K = expected_K / expected_K.mean()
    slope_K, spread_K, variance = _slopes(drawn_SK, loss_SK, is_known_K)
    if spread_K.any() and variance > 0:
        seen_K = np.clip(slope_K, 0.0, now_K)
        # Means over datasets count each by how well its slope is known.
        scale = max(spread_K @ seen_K / (spread_K @ expected_K), np.sqrt(variance / spread_K.mean()) / 2)
        expected_K = expected_K * scale
        prior_K = (_SPREAD * expected_K) ** 2
        reward_K = expected_K + prior_K / (prior_K + variance / np.maximum(spread_K, _TINY)) * (seen_K - expected_K)
    reward_K = np.maximum(reward_K, _LEAST * reward_K.mean())
    found = np.full(len(is_known_K), reward_K.mean())  # what isn't known gets the mean
    found[is_known_K] = reward_K
    return found


def _slopes(drawn_SK: Floats, loss_SK: Floats, is_known_K: NDArray[np.bool_]) -> tuple[Floats, Floats, float]:
    """How much each known loss falls per unit of log n (K,); the spread of log n (K,); and the variance of the fit.

    The squared standard error of a slope is variance / spread. A dataset that wasn't drawn between measurements has a
    spread of 0, and nothing is known of its slope.
    """
    loss_SK, total_S = loss_SK[:, is_known_K], drawn_SK.sum(axis=1)
    log_SK = np.log(np.maximum(drawn_SK[:, is_known_K], 1))
    weight_S = total_S**2 / (total_S**2).sum()
    x_SK, fall_SK = log_SK - weight_S @ log_SK, weight_S @ loss_SK - loss_SK
    spread_K = weight_S @ x_SK**2
    spread_K = np.where(spread_K > _FLAT, spread_K, 0.0)
    slope_K = np.where(spread_K > 0, weight_S @ (x_SK * fall_SK) / np.where(spread_K > 0, spread_K, 1.0), 0.0)
    count = 1 / (weight_S @ weight_S)  # measurements of equal weight that say as much
    square = float((weight_S @ (fall_SK - slope_K * x_SK) ** 2).mean()) * count / max(count - 2, 1)
    free, least = max(len(loss_SK) - 2, 0), (_NOISE * loss_SK[-1].mean()) ** 2
    return slope_K, spread_K, (square * free + least * _TIMES) / (free + _TIMES) / count
