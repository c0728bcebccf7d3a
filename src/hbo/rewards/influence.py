"""How one more row of a dataset changes the loss of all datasets: reward and method `influence` (ours).

To first order, a step of size η along the gradient of one more row of dataset j changes the mean loss over datasets by

    −η I_j,    I_j = ⟨u_j, (1/K) Σ_i d_i⟩

with d_i the mean gradient of dataset i's rows set aside, as held-out loss is measured: of each row's mean token loss;
and u_j what a row of j adds to the gradient of a batch, whose loss is a mean over the tokens of all its rows: its mean
token loss times its target tokens, averaged over the probes. Probes and rows set aside are different rows, so the noise
of one has nothing to do with that of the other, and I_j is unbiased. What one dataset does for another is in it
(i ≠ j), and what it does against it.

**Why its root.** Where losses fall as A_i/n_i, a row is worth A_i/n_i² and the best counts are n ∝ √A. So R_j = √I_j is
the share that what was seen at equal counts asks for, and p ∝ R is where the actors rest. Unlike `slope` it looks at no
past: it sees what a row would do now, also in a dataset whose loss is flat only because its rows hold it there.

If I_j isn't above 0, the rows of j do nothing or do harm, or noise hides what they do. I_j then counts as a hundredth
of the mean of those above 0, so R as a tenth. If none is above 0, all rewards are equal. The gradient is the plain one;
optimizers such as Adam scale it by parameter, so their steps go in another direction.

Memory: two gradients of the trainable parameters. Work: a forward and a backward of the probes and of as many rows set
aside per dataset.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from hbo.arrays import Floats
from hbo.rewards.alignment import dot, mean_gradient, own_share
from hbo.rewards.norms.left_as_found import left_as_found
from hbo.rewards.passes import Sets
from hbo.rewards.signal_norm import rooted


def influence(model: nn.Module, sets: Sets) -> Floats:
    """The root of how much a row of each set lowers the mean loss of the rows set aside, per unit of step (C,)."""
    return rooted(influences(model, sets))


def influences(model: nn.Module, sets: Sets) -> Floats:
    """I_j of each set (C,), which may be negative."""
    value_C = np.zeros(len(sets.row_C))
    with left_as_found(model):
        aim = mean_gradient(model, sets, sets.dev_K[0])
        for rows in sets.dev_K[1:]:
            torch._foreach_add_(aim, mean_gradient(model, sets, rows))
        for i in own_share(sets):
            own = mean_gradient(model, sets, sets.row_C[i], by_token=True)
            value_C[i] = dot(own, aim) / len(sets.dev_K)
    return sets.passes.processes.total(value_C)
