"""How much more rows of a dataset lower the mean held-out loss: method `slope` (ours).

**What to aim at.** Rows are to be drawn so that the mean loss over datasets is least when the rows are used up. Where
dataset i's loss falls as L_i = E_i + A_i n_i^(−a) in its own rows n_i, the best final counts have equal slopes
A_i a n_i^(−a−1): a row more of any is worth the same (water-filling), and the order of the rows doesn't matter.
Sampling p ∝ slope doesn't reach that, since equal slopes would mean equal shares. What reaches it is p ∝ slope × rows,

    R_j = −n_j ∂/∂n_j (1/K) Σ_i L_i        what one percent more rows of j lower the mean loss by, in hundredths:

if p_j ∝ n_j s_j for all j, then counts stand as n_j ∝ n_j s_j, so all s_j are equal. Under the power law it draws near
that point of itself: R_j ∝ A_j n_j^(−a), so a dataset that has had too many rows is drawn less; and every actor whose
fixed point is p ∝ reward rests there.

**How it is measured.** The loss of the same rows set aside is measured on the untuned model and at every update, so
that differences don't hang on which rows were looked at. Of each dataset's losses until now, power laws are fitted,

    L_i(s) = c_i − Σ_j θ_ij f_a(1 + n_j(s)/m) + noise,    f_a(r) = (1 − r^(−a)) / a,    f_0 = log

with n_j(s) the rows drawn of j until measurement s, which counts by the rows drawn in all, and m those of a dataset at
the first update. The exponents a are five, from a loss that falls evenly in the logarithm of rows to one that is soon
as low as it gets; each has its say by how well it fits in the own rows alone (a likelihood, so that with two
measurements all have). Then

    R_j = (1/K) Σ_i θ_ij (1 + n_j/m)^(−a)

and θ is the matrix of which dataset's rows have lowered whose loss. Counts grow together while shares change slowly, so
that the columns of θ can hardly be told apart; a ridge does, by which all other datasets together are taken to do a
third of what the own rows do (as prior standard deviations) until counts say otherwise. A transfer that is large is
seen in part, and late.

What a first update sees is mostly that the format of answers is learned, and by which noise. So that all are worth the
same counts as one measurement among the S: R is drawn to its mean by 1/S.

A power law per dataset, fitted online, is Adaptive Data Optimization (Jiang et al. 2024, arXiv 2410.11820); slopes that
hold between datasets are in arXiv 2605.10770. Neither is followed in detail: of a fine-tuning run, ten to a hundred
measurements are all there is.

A dataset whose rows would raise the mean loss counts as one whose rows do nothing. No reward is below a hundredth of
the mean.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import nn

from hbo.arrays import Floats
from hbo.rewards.passes import Sets
from hbo.rewards.uncertainty import Statistics, statistics

_EXPONENTS = np.array([0.0, 0.25, 0.5, 1.0, 2.0])
"""E of them, of the power laws that are fitted."""
_OTHERS = 1 / 3  # prior standard deviation of what all other datasets' rows do, over that of its own
_LEAST = 0.01  # of the mean reward
_NOISE = 0.01  # of a dataset's fall: less can't be told from noise
_TINY = np.finfo(float).tiny


def slope(model: nn.Module, sets: Sets) -> Floats:
    """How much more rows of each dataset lower the mean loss (K,); NaN on the untuned model."""
    assert sets.past is not None
    return worth(*sets.past.note(dev_losses(model, sets)))


def dev_losses(model: nn.Module, sets: Sets) -> Floats:
    """The mean loss of each dataset's rows that are set aside (K,); NaN of one that has none."""
    found = sets.each(model, sets.dev_K, statistics, len(Statistics._fields))
    return np.array([Statistics(*row_7P).mean_loss.mean() if row_7P.size else np.nan for row_7P in found])


def worth(drawn_SK: Floats, loss_SK: Floats) -> Floats:
    """The rewards (K,) that follow from losses after so many rows of each dataset, the first before any; else NaN.

    Example:
        >>> drawn = np.array([[0, 0], [10, 10], [20, 20], [30, 30]])
        >>> loss = np.stack([3 - np.log1p(drawn[:, 0] / 10), 3 - 0 * drawn[:, 1]], axis=1)
        >>> share = worth(drawn, loss)
        >>> bool(share[0] > 3 * share[1])
        True
    """
    K = drawn_SK.shape[1]
    if is_untold(drawn_SK):
        return np.full(K, np.nan)
    known, worth_of = [], []
    for i, ratio_SK, loss_S, weight_S in _measurements(drawn_SK, loss_SK):
        likely_E, theta_EK = _laws(ratio_SK, loss_S, weight_S, i)
        known.append(i)
        worth_of.append(likely_E @ (theta_EK * ratio_SK[-1] ** -_EXPONENTS[:, None]))
    reward_K = np.full(K, np.nan)
    if known:
        reward_K[known] = np.mean(worth_of, axis=0)[known]
    return _drawn_to_the_mean(reward_K, len(drawn_SK))


def is_untold(drawn_SK: Floats) -> bool:
    """Whether nothing has been measured since training began."""
    return len(drawn_SK) < 2 or not drawn_SK[1].any()


def _measurements(drawn_SK: Floats, loss_SK: Floats) -> Iterator[tuple[int, Floats, Floats, Floats]]:
    """Each dataset that was drawn between two measurements of its loss, and of its measurements alone:

    rows drawn over those of a dataset at the first update, plus 1 (S, K); losses (S,); how much each counts (S,).
    """
    total_S = drawn_SK.sum(axis=1)
    weight_S = total_S + total_S[1] / 2  # the untuned model's loss counts too, but least
    ratio_SK = 1 + drawn_SK / drawn_SK[1].mean()
    for i in range(drawn_SK.shape[1]):
        known_S = np.isfinite(loss_SK[:, i])
        if len(np.unique(drawn_SK[known_S, i])) > 1:
            yield i, ratio_SK[known_S], loss_SK[known_S, i], weight_S[known_S]


def _drawn_to_the_mean(reward_K: Floats, count: int) -> Floats:
    """Rewards (K,) that so many measurements say, all 0 or more and equal if none is above 0; NaN gets the mean."""
    known_K = np.isfinite(reward_K)
    if not (reward_K[known_K] > 0).any():
        return np.ones(len(reward_K))  # no more rows of anything would help
    reward_K = np.maximum(reward_K, 0.0)
    mean = float(reward_K[known_K].mean())
    reward_K = np.where(known_K, reward_K, mean)
    drawn_in_K: Floats = reward_K + (mean - reward_K) / count
    return np.maximum(drawn_in_K, _LEAST * mean)


def _laws(ratio_SK: Floats, loss_S: Floats, weight_S: Floats, own: int) -> tuple[Floats, Floats]:
    """How likely each exponent is for the losses of dataset `own` (E,), and θ under each of them (E, K)."""
    root_S = np.sqrt(weight_S / weight_S.sum())
    fall_S = -_centred(loss_S, root_S)
    left_E, theta_EK = [], []
    for exponent in _EXPONENTS:
        law_SK = np.log(ratio_SK) if exponent == 0 else (1 - ratio_SK**-exponent) / exponent
        left, theta_K = _ridge(_centred(law_SK, root_S), fall_S, own)
        left_E.append(left)
        theta_EK.append(theta_K)
    log_E = -0.5 * max(0, len(loss_S) - 2) * np.log(np.array(left_E))
    likely_E = np.exp(log_E - log_E.max())
    return likely_E / likely_E.sum(), np.stack(theta_EK)


def _centred(value_S: Floats, root_S: Floats) -> Floats:
    """Less its weighted mean, and weighted: what least squares with a constant is made of."""
    found: Floats = (root_S * (value_S - root_S**2 @ value_S).T).T
    return found


def _ridge(law_SK: Floats, fall_S: Floats, own: int) -> tuple[float, Floats]:
    """What a law in the own rows alone leaves over, and θ of one dataset (K,)."""
    own_S, K = law_SK[:, own], law_SK.shape[1]
    spread, size = max(float(own_S @ own_S), _TINY), float(fall_S @ fall_S)
    fit = own_S @ fall_S / spread
    left = float(((fall_S - fit * own_S) ** 2).sum() + _NOISE**2 * size + _TINY)
    deviation_K = np.full(K, _OTHERS / np.sqrt(max(1, K - 1)))
    deviation_K[own] = 1.0
    prior_K = deviation_K**2 * max(size / spread, _TINY)
    pull_SS = (law_SK * prior_K) @ law_SK.T + left / max(1, len(fall_S) - 2) * np.eye(len(fall_S))
    theta_K: Floats = prior_K * (law_SK.T @ np.linalg.solve(pull_SS, fall_S))
    return left, theta_K
