"""Which rows of each group a measurement looks at: a pool drawn once, and some of it anew at every update."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hbo.config import HBOConfig
from hbo.core.groups import Groups

Ints = NDArray[np.int64]

_POOL, _PROBES = 11, 12  # what a generator is for, part of its key


def chosen(rows: Ints, count: int, key: tuple[int, ...]) -> Ints:
    """`count` of the rows, all different, in ascending order; all of them if there are fewer."""
    if len(rows) <= count:
        return rows
    return np.sort(rows[np.random.default_rng(key).choice(len(rows), count, replace=False)])


def pool_of(
    groups: Groups, config: HBOConfig, seed: int, numbers: Callable[[Ints], Ints] = lambda rows: rows
) -> list[Ints]:
    """The pool of each group; `numbers` turns its rows into the numbers of what is measured.

    Raises:
        Nothing.
    """
    return [
        chosen(numbers(groups.rows(k, j)), config.probe_pool, (seed, _POOL, k, j))
        for k in range(len(groups.datasets))
        for j in range(groups.levels)
    ]


def probes_of(pool: list[Ints], config: HBOConfig, levels: int, seed: int, step: int) -> list[Ints]:
    """What the update at `step` looks at, one array per group: `config.probes` per dataset, at least one per group.

    Raises:
        Nothing.
    """
    share = [config.probes // levels + (j < config.probes % levels) for j in range(levels)]
    return [chosen(rows, max(1, share[cell % levels]), (seed, _PROBES, step, cell)) for cell, rows in enumerate(pool)]
