"""Where the datasets' probabilities start, how low they may go, and how often a row may be drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from hbo.arrays import Floats
from hbo.errors import ConfigError

MANY_PASSES = 4
"""From this many passes on, a row is likely to be learned by heart; warnings of repetition use this number."""


def temperature_prior(sizes: ArrayLike, temperature: float) -> Floats:
    """q ∝ n^(1/τ) (Eq. 3): τ = 1 is proportional to size, τ → ∞ uniform.

    Args:
        sizes: Rows of each dataset (K,), above 0.
        temperature: τ above 0; may be infinite.

    Raises:
        ConfigError: τ is not above 0, or a size is not.

    Example:
        >>> temperature_prior([300, 100], 1.0).tolist()
        [0.75, 0.25]
        >>> temperature_prior([300, 100], float("inf")).tolist()
        [0.5, 0.5]
    """
    n = np.asarray(sizes, dtype=np.float64)
    if np.isnan(temperature) or temperature <= 0:
        raise ConfigError(f"temperature is {temperature}; it must be above 0 (1 = proportional, .inf = uniform)")
    if n.ndim != 1 or len(n) == 0 or not (np.isfinite(n) & (n > 0)).all():
        raise ConfigError(f"every dataset needs a size above 0, but the sizes are {n.tolist()}")
    # Relative to the largest, so that a tiny τ doesn't overflow.
    q = (n / n.max()) ** (1.0 / temperature)
    return normalised(q)


def weighted_prior(sizes: Mapping[str, int], temperature: float, weights: Mapping[str, float]) -> Floats:
    """The prior over datasets, when some or all of them have a weight.

    A dataset without a weight has one by its size: these weights are ∝ n^(1/τ) and 1 on average. The prior is all
    weights, normalised.

    Args:
        sizes: Dataset → rows.
        temperature: τ for the datasets without a weight.
        weights: Dataset → weight.

    Raises:
        ConfigError: A weight names no dataset or is not above 0.
    """
    for name, weight in weights.items():
        if name not in sizes:
            raise ConfigError(f"weight for '{name}', but the mixture has {', '.join(sizes)}")
        if not weight > 0 or not np.isfinite(weight):
            raise ConfigError(f"the weight of '{name}' is {weight}; it must be a number above 0")
    size_K = np.array(list(sizes.values()))
    if not weights:
        return temperature_prior(size_K, temperature)
    rest = np.array([name not in weights for name in sizes])
    p = np.array([weights.get(name, 0.0) for name in sizes], dtype=np.float64)
    if rest.any():
        p[rest] = rest.sum() * temperature_prior(size_K[rest], temperature)
    return normalised(p)


def normalised(weight_C: Floats) -> Floats:
    """Probabilities proportional to these weights."""
    p_C: Floats = weight_C / weight_C.sum()
    return p_C


def floored(p_C: Floats, floor: float) -> Floats:
    """`p_C` with no probability below `floor`; those above keep their ratios.

    Example:
        >>> floored(np.array([0.9, 0.1, 0.0]), 0.1).round(3).tolist()
        [0.8, 0.1, 0.1]
    """
    low = np.zeros(len(p_C), dtype=bool)
    result = p_C
    while (result < floor - 1e-15).any():
        low |= result < floor
        room = 1.0 - floor * low.sum()
        kept = p_C[~low].sum()
        result = np.where(low, floor, p_C * (room / kept) if kept > 0 else floor)
    return result


def ceiled(share_C: Floats, most_C: Floats) -> Floats:
    """`share_C` with none above its limit; what is over goes to the others, in proportion, while they can take it.

    Example:
        >>> ceiled(np.array([0.8, 0.1, 0.1]), np.array([0.2, 1.0, 0.3])).round(3).tolist()
        [0.2, 0.5, 0.3]
        >>> ceiled(np.array([5.0, 5.0]), np.array([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """
    full = np.zeros(len(share_C), dtype=bool)
    result, total = share_C, share_C.sum()
    while (above := ~full & (result > most_C)).any():
        full |= above
        room = max(0.0, total - most_C[full].sum())
        kept = result[~full].sum()
        result = np.where(full, most_C, result * (room / kept if kept > 0 else 0.0))
    return result


def check_floor(floor: float, datasets: int, levels: int) -> None:
    """Refuses a floor that is too high.

    Raises:
        ConfigError: The floor times the number of choices is above 1.
    """
    for what, count in (("datasets", datasets), ("groups per dataset", levels)):
        if floor * count > 1:
            raise ConfigError(f"min_probability is {floor}, but with {count} {what} it can be at most {1 / count:.4g}")


def check_passes(max_passes: int | None) -> None:
    """Refuses a value that isn't a number of passes.

    Raises:
        ConfigError: It isn't a whole number above 0.
    """
    if max_passes is not None and (isinstance(max_passes, bool) or not isinstance(max_passes, int) or max_passes < 1):
        raise ConfigError(f"max_passes is {max_passes!r}; it must be a whole number above 0, or None for no cap")
