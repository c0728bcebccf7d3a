"""What can be learned of a dataset and isn't yet: method and reward `learnable` (ours).

A loss, or a ratio of losses or of perplexities, is large where much is left to learn, and as large where nothing can
be: a dataset of facts that don't follow from one another stays at a high loss. What counts is how far a loss is from
where more rows would bring it,

    R_i = L_i − E_i        the loss now, less the loss that it falls towards.

**Why that is a share.** If losses fall as L_i = E_i + A_i n_i^(−a), best final counts have equal slopes A_i a
n_i^(−a−1), that is n_i ∝ A_i^(1/(1+a)). Drawn by R_i = A_i n_i^(−a), counts rest where n_i ∝ A_i n_i^(−a), and these
are the same. Datasets that fall with different exponents, or that help each other, are not told apart; `slope` tries.

**How E is known.** The loss of the same rows set aside is measured on the untuned model and at every update, and the
power laws of `hbo.rewards.slope` are fitted to each dataset's losses, those with an end: with r = 1 + n_i/m, one of
exponent a > 0 still has θ_i r^(−a) / a to fall, and never more than the loss. The exponents have their say by how well
they fit, and R is drawn to its mean by 1/S of S measurements, both as in `slope`.

A loss that doesn't fall leaves nothing to learn. No reward is below a hundredth of the mean.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from hbo.arrays import Floats
from hbo.rewards.passes import Sets
from hbo.rewards.slope import EXPONENTS, dev_losses, drawn_to_the_mean, is_untold, laws, measured

_ENDS = EXPONENTS > 0  # a loss that falls with the logarithm of rows falls for ever


def learnable(model: nn.Module, sets: Sets) -> Floats:
    """How far the loss of each dataset can still fall (K,), nats per token; NaN on the untuned model."""
    assert sets.past is not None
    return left(*sets.past.note(dev_losses(model, sets)))


def left(drawn_SK: Floats, loss_SK: Floats) -> Floats:
    """The rewards (K,) that follow from losses after so many rows of each dataset, the first before any; else NaN.

    Example: two losses that fall by as much, and one has come to its end.
        >>> drawn = np.array([[0, 0], [10, 10], [20, 20], [30, 30], [40, 40]])
        >>> ended, falling = np.array([4.0, 3.1, 3.0, 3.0, 3.0]), np.array([4.0, 3.7, 3.45, 3.2, 3.0])
        >>> share = left(drawn, np.stack([ended, falling], axis=1))
        >>> bool(share[1] > 2 * share[0])
        True
    """
    K = drawn_SK.shape[1]
    if is_untold(drawn_SK):
        return np.full(K, np.nan)
    left_K = np.full(K, np.nan)
    for i, ratio_SK, loss_S, weight_S in measured(drawn_SK, loss_SK):
        likely_E, theta_EK = laws(ratio_SK[:, i : i + 1], loss_S, weight_S, 0)
        still_E = theta_EK[_ENDS, 0] * ratio_SK[-1, i] ** -EXPONENTS[_ENDS] / EXPONENTS[_ENDS]
        weight_E = likely_E[_ENDS] / likely_E[_ENDS].sum()
        left_K[i] = weight_E @ np.clip(still_E, 0.0, loss_S[-1])
    return drawn_to_the_mean(left_K, len(drawn_SK))
