"""Static mixtures spread over the simplex: the shares at which a search for the best one is trained.

K datasets, N mixtures, C candidates.
"""

from __future__ import annotations

import numpy as np

from hbo.arrays import Floats

_SEED = 2403_16952
_CANDIDATES = 16  # that each point is the best of: more would push all points to the rim, where nobody trains


def least_share(datasets: int) -> float:
    """The share below which no mixture goes: a fifth of an even one.

    Below it a dataset is as good as absent, which is another question than how much of it is best.

    Example:
        >>> least_share(4)
        0.05
    """
    return 1 / (5 * datasets)


def spread(count: int, datasets: int) -> Floats:
    """`count` mixtures (N, K), the uniform one first, every share at or above `least_share`.

    Each further one is that of some random candidates, uniform over the simplex above the least share, which lies
    farthest from its nearest neighbour (Mitchell's best candidate, 1991). So the points keep apart without crowding
    the corners, the first 12 of 16 are the 12 of 12, and the same numbers give the same points.

    Example:
        >>> spread(3, 2).round(2).tolist()[0]
        [0.5, 0.5]
    """
    low = least_share(datasets)
    generator = np.random.default_rng(_SEED)
    found = [np.full(datasets, 1 / datasets)]
    while len(found) < count:
        # As many numbers for each point, so that a longer design begins with the shorter one.
        candidate_CK = low + (1 - datasets * low) * generator.dirichlet(np.ones(datasets), size=_CANDIDATES)
        apart_CN = np.linalg.norm(candidate_CK[:, None] - np.array(found)[None], axis=2)
        found.append(_rounded(candidate_CK[apart_CN.min(axis=1).argmax()], low))
    return np.array(found)


def _rounded(share_K: Floats, low: float) -> Floats:
    """The shares in thousandths that sum to 1, so that a configuration shows them whole, and none falls below `low`."""
    whole_K = np.maximum(np.floor(1000 * share_K), np.ceil(1000 * low - 1e-9))
    order = np.argsort(-(1000 * share_K - whole_K), kind="stable")
    left = round(1000 - float(whole_K.sum()))
    for step in range(abs(left)):
        whole_K[order[step % len(order)] if left > 0 else whole_K.argmax()] += 1 if left > 0 else -1
    return whole_K / 1000
