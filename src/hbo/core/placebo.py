"""The placebo: rewards dealt out anew by chance, so that they move the shares as ever and say nothing.

An actor's shares move for two reasons: because a reward says something of its own dataset, and because rewards are
spread as they are (the paper's start at the sizes and drift towards near-equal shares whatever they are given to). A
placebo keeps the second and takes the first away, so what a method owes to its rewards is what it has over its placebo.

At every update the datasets' rewards are permuted among the datasets, and inside each dataset the groups' among its
groups, each permutation equally likely and a pure function of seed and step. A choice that wasn't measured stays so.
"""

from __future__ import annotations

import numpy as np

from hbo.arrays import Floats, Ints
from hbo.core.keys import Purpose, generator


def takers_of(global_K: Floats | None, local_KL: Floats | None, seed: int, step: int) -> tuple[Ints, Ints]:
    """Whose reward each dataset (K,) gets, and each group (K, L) inside its dataset; empty for a level without any."""
    order_K = np.empty(0, np.int64) if global_K is None else _order(global_K, seed, step, 0)
    order_KL = [] if local_KL is None else [_order(row_L, seed, step, 1 + k) for k, row_L in enumerate(local_KL)]
    return order_K, np.array(order_KL, dtype=np.int64)


def _order(reward_C: Floats, seed: int, step: int, place: int) -> Ints:
    order_C, known = np.arange(len(reward_C)), np.flatnonzero(np.isfinite(reward_C))
    order_C[known] = generator(seed, Purpose.PLACEBO, step, place).permutation(known)
    return order_C
