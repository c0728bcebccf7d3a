"""The stream as a torch Sampler: one epoch of rows, cut so that every optimizer step gets its own window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from torch.utils.data import Sampler

from hbo.arrays import Ints
from hbo.core.stream import Stream
from hbo.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """How many rows each optimizer step consumes.

    Attributes:
        rows: Rows of a step over all processes: batch × accumulation × processes.
        steps_per_epoch: Steps between two iterations of the loader.
        last_rows: Rows of an epoch's last step, for which the trainer may find fewer micro-batches left.
    """

    rows: int
    steps_per_epoch: int
    last_rows: int

    @classmethod
    def of(cls, batches: int, batch: int, accumulation: int) -> Schedule:
        """The schedule of a loader with `batches` batches per epoch, each of `batch` rows over all processes."""
        steps = -(-batches // accumulation)
        last = batches - (steps - 1) * accumulation
        return cls(batch * accumulation, steps, batch * last)

    @property
    def rows_per_epoch(self) -> int:
        """Rows of an epoch."""
        return (self.steps_per_epoch - 1) * self.rows + self.last_rows

    def position(self, step: int) -> int:
        """Where in the stream the step after `step` finished ones begins; step · rows when epochs hold whole steps."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        return epochs * self.rows_per_epoch + steps * self.rows


class HBOSampler(Sampler[int]):
    """Rows of a mixture in the order of its stream; the rows of one step are sorted by length, so that padding is low.

    Each iteration is one epoch: as many rows as the mixture has, in whole steps. It begins where the one before ended,
    or where `seek` says.

    Args:
        stream: What to draw.
        schedule: Rows per step; absent: steps of `batch` rows.
        batch: Rows per optimizer step over all processes, when there is no schedule.

    Raises:
        ConfigError: `batch` is below 1.

    Example:
        >>> import numpy as np
        >>> from hbo.core.groups import Groups
        >>> from hbo.core.ledger import Entry, Ledger
        >>> groups = Groups.from_columns(["a"] * 4, [0] * 4)
        >>> ledger = Ledger(["a"], [Entry(0, 0, np.ones(1), np.ones((1, 1)))])
        >>> sorted(HBOSampler(Stream(groups, ledger), batch=2))
        [0, 1, 2, 3]
    """

    def __init__(self, stream: Stream, schedule: Schedule | None = None, *, batch: int = 1) -> None:
        if batch < 1:
            raise ConfigError(f"batch is {batch}, but a step has at least one row")
        steps = -(-len(stream.groups.order_N) // batch)
        self.stream = stream
        self.schedule = schedule or Schedule(batch, steps, batch)
        stream.steps = self.schedule.rows, self.schedule.rows_per_epoch
        self.step = 0
        self._skip = 0
        self._is_over = False
        self.drawn_steps = 0
        self._ahead: dict[int, Ints] = {}  # drawn, but not yet trained on

    def __len__(self) -> int:
        return self.schedule.rows_per_epoch

    def seek(self, step: int, *, skip: int = 0, is_over: bool = False) -> None:
        """The next iteration begins after `step` finished optimizer steps.

        Args:
            step: Steps done when the iteration's first row is used.
            skip: Steps whose rows the caller will throw away (as `accelerate.skip_first_batches` does); placeholders
                stand for them, so that nothing is drawn again.
            is_over: Nothing comes after these.
        """
        self.step, self._skip, self._is_over = step, skip, is_over

    def window(self, step: int) -> Ints:
        """The rows of the step after `step` finished ones, shortest first."""
        rows = self.stream.rows(self.schedule.position(step), self.schedule.position(step + 1))
        lengths = self.stream.groups.length_N
        return rows if lengths is None else rows[np.argsort(lengths[rows], kind="stable")]

    def consume(self, step: int) -> Ints:
        """`window(step)`, without drawing it a second time when the loader has been there."""
        for passed in [s for s in self._ahead if s < step]:
            del self._ahead[passed]
        return self._ahead.pop(step) if step in self._ahead else self.window(step)

    def __iter__(self) -> Iterator[int]:
        first, skip = self.step, self._skip
        self._skip = 0
        last = first + (skip if self._is_over else self.schedule.steps_per_epoch)
        self.step = last
        yield from repeat(0, self.schedule.position(first + skip) - self.schedule.position(first))
        for step in range(first + skip, last):
            self.drawn_steps = step + 1
            self._ahead[step] = self.window(step)
            yield from self._ahead[step].tolist()
