"""What a few paired runs can and can't say: standard error, bootstrap interval, sign-flip permutation test.

N is the number of pairs (seeds).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_EXACT = 16  # pairs up to which every flip of signs is tried
_DRAWS = 20_000
_BATCH = 4096
_TIE = 1e-12
_LEVEL = 0.05


@dataclass(frozen=True)
class Paired:
    """The mean difference of two methods over the same seeds.

    Attributes:
        mean: Mean of the differences.
        low: Lower end of the 95% bootstrap interval; NaN with one pair.
        high: Upper end.
        p: Two-sided permutation p-value; NaN with one pair.
        pairs: Seeds that both have.
    """

    mean: float
    low: float
    high: float
    p: float
    pairs: int

    @property
    def verdict(self) -> str:
        """The difference in words; claims nothing that interval and p-value don't both show.

        Where all differences have the same sign but the seeds are too few for p ≤ 0.05 (fewer than six), says so.
        """
        if self.pairs < 2:
            return "one seed: no interval" if self.pairs else "no seed in common"
        if self.low <= 0 <= self.high:
            return "no difference seen"
        way = "lower" if self.mean < 0 else "higher"
        if self.p <= _LEVEL:
            return way
        if self.p <= 2.0 ** (1 - self.pairs):
            return f"{way} in all {self.pairs} seeds, which are too few to tell"
        return "no clear difference"


def mean_and_error(values: ArrayLike) -> tuple[float, float]:
    """The mean and its standard error; the error is NaN for one value, both for none.

    Example:
        >>> mean_and_error([1.0, 3.0])
        (2.0, 1.0)
    """
    x_N = np.asarray(values, dtype=np.float64)
    if not x_N.size:
        return math.nan, math.nan
    error = float(x_N.std(ddof=1) / math.sqrt(x_N.size)) if x_N.size > 1 else math.nan
    return float(x_N.mean()), error


def permutation_p(differences: ArrayLike, seed: int = 0) -> float:
    """The share of sign flips whose mean is at least as far from 0 (Fisher's paired permutation test, two-sided).

    All 2^N flips up to N = 16, where the least p is 2^(1−N); beyond, 20,000 random ones and the one observed. NaN
    without differences.

    Example:
        >>> permutation_p([1.0, 1.0, 1.0])
        0.25
    """
    x_N = np.asarray(differences, dtype=np.float64)
    if not x_N.size:
        return math.nan
    # Sums that differ by rounding alone are ties, and ties count.
    least = abs(x_N.sum()) - _TIE * max(float(np.abs(x_N).sum()), 1e-300)
    if x_N.size <= _EXACT:
        total, hits = 2**x_N.size, 0
        for start in range(0, total, _BATCH):
            flips = np.arange(start, min(start + _BATCH, total))[:, None] >> np.arange(x_N.size) & 1
            hits += int((np.abs((1 - 2.0 * flips) @ x_N) >= least).sum())
        return float(hits / total)
    generator = np.random.default_rng(seed)
    signs = generator.integers(0, 2, size=(_DRAWS, x_N.size)) * 2.0 - 1
    return (1 + int((np.abs(signs @ x_N) >= least).sum())) / (_DRAWS + 1)


def bootstrap_interval(differences: ArrayLike, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean (Efron, 1979); NaN for fewer than two values.

    It is too narrow for a handful of seeds: read it beside the p-value.

    Example:
        >>> bootstrap_interval([2.0, 2.0])
        (2.0, 2.0)
    """
    x_N = np.asarray(differences, dtype=np.float64)
    if x_N.size < 2:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(0, x_N.size, size=(_DRAWS, x_N.size))
    low, high = np.quantile(x_N[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired(ours: dict[int, float], theirs: dict[int, float]) -> Paired:
    """The difference `ours` − `theirs` over the seeds that both have.

    Example:
        >>> paired({0: 1.0}, {0: 2.0, 1: 2.0}).verdict
        'one seed: no interval'
    """
    seeds = sorted(ours.keys() & theirs.keys())
    x_N = np.array([ours[seed] - theirs[seed] for seed in seeds])
    low, high = bootstrap_interval(x_N)
    p = permutation_p(x_N) if len(seeds) > 1 else math.nan
    return Paired(mean_and_error(x_N)[0], low, high, p, len(seeds))
