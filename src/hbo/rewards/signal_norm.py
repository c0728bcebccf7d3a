"""The norm of a dataset's mean gradient, without noise: rewards `signal_norm` and `token_signal_norm` (ours).

Rows of a dataset have gradients g = ḡ + noise. The mean of ‖g‖ (`gradient_norm`) is mostly noise in a large model, and
the norm of a mean over n probes (`batch_gradient_norm`) has noise in it too: E‖Σg/n‖² = ‖ḡ‖² + E‖noise‖²/n. Of two
means over different rows the noise is independent, so their inner product has none on average; over all pairs of M
parts c of the probes,

    (‖Σc‖² − Σ‖c‖²) / (M (M − 1))        is unbiased for ‖ḡ‖², what the rows pull at together,

with M = 8 parts, or n rows if there are fewer. Its root, R = ‖ḡ‖, says how much is left to learn that the rows agree
on. It goes to 0 if nothing can be learned from the answers, and if a dataset is mastered; a mean of norms doesn't.

**Why the root is a share.** To first order in the learning rate a row lowers its own dataset's loss by ‖ḡ‖². If losses
fall as A_i/n_i, that is A_i/n_i², and best counts are n ∝ √A: the roots of what a row is worth where counts are equal.

`token_signal_norm` is R · √(mean target tokens of a row). A trainer that takes the mean over all tokens of a batch
gives a row with more of them more weight, and ‖ḡ‖ is that of row means.

If the estimate isn't above 0, noise hides the signal, and we know only that the signal is small. The estimate then
counts as a hundredth of the mean of those above 0, so R as a tenth. If none is above 0, all rewards are 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from hbo.arrays import Floats, Ints
from hbo.data.tokens import predicts_target
from hbo.rewards.alignment import dot, mean_gradient, own_share
from hbo.rewards.norms.left_as_found import left_as_found
from hbo.rewards.passes import Sets
from hbo.scoring.batches import reader

_PARTS = 8
_LEAST = 0.01  # of the mean of those above 0


def signal_norm(model: nn.Module, sets: Sets) -> Floats:
    """The norm of each set's mean gradient without its noise (C,)."""
    square_C = np.zeros(len(sets.row_C))
    with left_as_found(model):
        for i in own_share(sets):
            square_C[i] = _square(model, sets, sets.row_C[i])
    return rooted(sets.passes.processes.total(square_C))


def token_signal_norm(model: nn.Module, sets: Sets) -> Floats:
    """`signal_norm` × √(mean target tokens) of each set (C,)."""
    return signal_norm(model, sets) * np.sqrt([target_counts(sets, rows).mean() for rows in sets.row_C])


def rooted(square_C: Floats) -> Floats:
    """The roots (C,). What isn't above 0 gets a tenth of the root of the mean of what is; if nothing is, all get 1.

    Example:
        >>> rooted(np.array([4.0, -1.0, 16.0])).round(3).tolist()
        [2.0, 0.316, 4.0]
    """
    above = square_C[square_C > 0]
    if not len(above):
        return np.where(np.isnan(square_C), np.nan, 1.0)
    root_C: Floats = np.sqrt(np.where(np.isnan(square_C), np.nan, np.maximum(square_C, _LEAST * above.mean())))
    return root_C


def target_counts(sets: Sets, number_P: Ints) -> Ints:
    """Target tokens of each of these rows (P,)."""
    return np.array([int(predicts_target(labels).sum()) for _, labels in reader(sets.passes.rows)(number_P)])


def equal_parts(number_P: Ints, most: int = _PARTS) -> Iterator[Ints]:
    """The rows in parts of equal size; rows left over belong to no part."""
    count = min(most, len(number_P))
    size = len(number_P) // max(1, count)
    return (number_P[part : size * count : count] for part in range(count))


def _square(model: nn.Module, sets: Sets, number_P: Ints) -> float:
    """The unbiased squared norm of the mean gradient of these rows; NaN of a single one."""
    total, squares, count = None, 0.0, 0
    for rows in equal_parts(number_P):
        own = mean_gradient(model, sets, rows)
        squares, count = squares + dot(own, own), count + 1
        if total is None:
            total = own
        else:
            torch._foreach_add_(total, own)
    if total is None or count < 2:
        return np.nan
    return (dot(total, total) - squares) / (count * (count - 1))
