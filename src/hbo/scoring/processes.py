"""The processes that were launched together: which one this is, and how they come to hold the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list
from accelerate.utils import reduce as reduce_tensor

from hbo.arrays import Floats


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

    @classmethod
    def of(cls, state: Accelerator | PartialState) -> Processes:
        """Those of an accelerator."""
        if state.num_processes == 1:
            return ALONE

        def total(array: Floats) -> Floats:
            # float64 exists on every backend that trains in processes, except MPS, which has only one.
            summed: Floats = reduce_tensor(torch.from_numpy(array).to(state.device), reduction="sum").cpu().numpy()
            return summed

        return cls(state.process_index, state.num_processes, total, lambda value: broadcast_object_list([value])[0])

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.rank == 0

    def turns(self, count: int) -> Iterator[tuple[int, bool]]:
        """Numbers below `count`, dealt out in turn, each with whether this process answers for it.

        Every process gets as many, as a sharded model needs it: all processes take part in each of its passes. Where
        nothing is left for a process, it gets the last one too, without answering for it.
        """
        for first in range(0, count, self.count):
            yield min(first + self.rank, count - 1), first + self.rank < count

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

    def any(self, is_so: bool) -> bool:
        """Whether it is so in any process."""
        return is_so if self.count == 1 else self.total(np.array([float(is_so)]))[0] > 0

    def agree(self, value: Any) -> bool:
        """Whether all processes hold the same value; the same answer in each."""
        return not self.any(value != self.from_first(value))


ALONE = Processes()


def all_processes() -> Processes:
    """Those that were launched together; to be called when the training arguments have set up their device."""
    return Processes.of(PartialState())
