"""Several processes that measure rows together: each a share of the batches, and all hold all results in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def _itself(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Processes:
    """This process among those that share the work; every one of them must make the same calls in the same order.

    Attributes:
        rank: This process, from 0.
        count: Processes.
        total: Sums an array over all processes.
        from_first: Gives every process what the first one holds.
    """

    rank: int = 0
    count: int = 1
    total: Callable[[Floats], Floats] = np.copy
    from_first: Callable[[Any], Any] = _itself

    def together(self, value_N: Floats, is_known_N: np.ndarray) -> tuple[Floats, np.ndarray]:
        """The values (N,) that any process knows, NaN elsewhere, and which these are."""
        if self.count == 1:
            return np.where(is_known_N, value_N, np.nan), is_known_N
        times_N = self.total(is_known_N.astype(np.float64))
        sum_N = self.total(np.where(is_known_N, value_N, 0.0))
        return np.divide(sum_N, times_N, out=np.full_like(sum_N, np.nan), where=times_N > 0), times_N > 0

    def least(self, value: int | None) -> int | None:
        """The smallest of the values that the processes hold; None where any has none."""
        if self.count == 1:
            return value
        held = np.zeros(self.count)
        held[self.rank] = -1 if value is None else value
        smallest = int(self.total(held).min())
        return None if smallest < 0 else smallest

    def agree(self, value: Any) -> bool:
        """Whether all processes hold the same value; the same answer in each."""
        differs = self.count > 1 and value != self.from_first(value)
        return self.count == 1 or not self.total(np.array([float(differs)]))[0]


ALONE = Processes()
