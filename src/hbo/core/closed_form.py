"""Answers to rewards in closed form: no learning rate, no steps; pure functions, which `hbo.core.actors` calls.

C choices; `known_C` says which of them the prior doesn't rule out. Rewards of `loss_softmax`, `exp3` and `odm` are the
datasets' losses: by default those of the probes, with `rewards: stream` those that training shows anyway, which then
cost nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hbo.arrays import Floats
from hbo.core.prior import normalised

Known = NDArray[np.bool_]
_TINY = np.finfo(np.float64).tiny  # what has underflowed to 0 could never rise again
_GAMMA, _ETA = 0.1, 0.3  # Exp3's exploration and step
_MOST_LOSS = 100.0  # beyond it exp(loss) leaves nothing of the others


def tracked(policy_C: Floats, reward_C: Floats, rate: float) -> Floats:
    """p ← p^(1−rate) · (R/ΣR)^rate, renormalised (ours); rewards above 0.

    The distance to p ∝ R, in logs, shrinks by the factor 1 − rate per update, whatever the scale of R.
    """
    p_C = policy_C ** (1 - rate) * (reward_C / reward_C.sum()) ** rate
    p_C = np.where(policy_C == 0, 0.0, np.maximum(p_C, _TINY))
    return normalised(p_C)


def annealed(prior_C: Floats, elapsed_C: Floats) -> Floats:
    """p ∝ prior^(1 − t), where t goes from 0 to 1 over the run: with p ∝ n^(1/τ) at first, 1/τ falls evenly to 0.

    A control without any news: from the datasets' sizes to equal shares, whatever the rows are.
    """
    hotter_C = prior_C ** (1 - np.clip(elapsed_C, 0.0, 1.0))
    return normalised(np.where(prior_C > 0, hotter_C, 0.0))


def loss_softmax(loss_C: Floats, known_C: Known) -> Floats:
    """p = softmax(loss / T) with T = 1, the simplest dynamic mixture: it forgets what it was at every update.

    As proposed for ms-swift (github.com/modelscope/ms-swift, issue 9142).
    """
    weight_C = np.exp(np.where(known_C, loss_C - loss_C[known_C].max(), -np.inf))
    return normalised(weight_C)


def exp3_weights(weight_C: Floats, loss_C: Floats, known_C: Known, policy_C: Floats) -> Floats:
    """w_i ← w_i · exp(η R_i / (π_i C)): Exp3 with every arm observed, renormalised so that no weight overflows.

    After Auer et al. 2002 and IBM's online data mixing (fms-acceleration), with its γ = 0.1 and η = 0.3. Its fixed
    point is p ∝ R too, but for γ.
    """
    step_C = np.where(known_C, _ETA * loss_C / (np.where(known_C, policy_C, 1.0) * known_C.sum()), -np.inf)
    new_C = weight_C * np.exp(step_C - step_C.max())
    new_C = np.where(known_C, np.maximum(new_C / new_C.sum(), _TINY), 0.0)
    return normalised(new_C)


def exp3_policy(weight_C: Floats, known_C: Known) -> Floats:
    """π = (1 − γ) w / Σw + γ / C; the exploration is spread over the known choices."""
    p_C = (1 - _GAMMA) * weight_C + _GAMMA * known_C / known_C.sum()
    return normalised(p_C)


def odm_mean(mean_C: Floats, loss_C: Floats, known_C: Known) -> Floats:
    """R̂ ← 0.9 R̂ + 0.1 exp(loss): Online Data Mixing in its group form.

    After Albalak et al. 2023, "Efficient Online Data Mixing For Language Model Pre-Training", in the form that its
    scripts use; R̂ = 0 at first.
    """
    seen_C = np.where(known_C, np.exp(np.minimum(loss_C, _MOST_LOSS)), 0.0)
    return mean_C + 0.1 * (seen_C - mean_C)


def odm_policy(mean_C: Floats, time: int, known_C: Known) -> Floats:
    """π = (1 − C ε) R̂ / ΣR̂ + ε, with ε = min(1/C, √(ln C / (C t))) after the t-th update."""
    C = int(known_C.sum())
    epsilon = min(1 / C, np.sqrt(np.log(C) / (C * time)))
    p_C = np.where(known_C, (1 - C * epsilon) * mean_C / mean_C[known_C].sum() + epsilon, 0.0)
    return normalised(p_C)
