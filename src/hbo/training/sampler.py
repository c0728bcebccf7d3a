"""The stream as a torch Sampler: one epoch of rows, cut so that every optimizer step gets its own window."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

from torch.utils.data import Sampler

from hbo.arrays import Ints
from hbo.core.stream import Stream
from hbo.errors import ConfigError
from hbo.training.schedule import Schedule


class HBOSampler(Sampler[int]):
    """Rows of a mixture in the order of its stream; within a step they are sorted by length, to save padding.

    Each iteration is one epoch: as many rows as the mixture has, rounded up to whole steps. It begins where the
    previous one ended, or where `seek` says.

    Args:
        stream: What to draw.
        schedule: Rows per step; absent: steps of `batch` rows.
        batch: Rows per optimizer step over all processes; used if there is no schedule.

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
        return self.schedule.loaded_per_epoch

    def seek(self, step: int, *, skip: int = 0, is_over: bool = False) -> None:
        """Makes the next iteration begin after `step` finished optimizer steps.

        Args:
            step: Finished steps before the iteration's first row.
            skip: Steps whose rows the caller will throw away (as `accelerate.skip_first_batches` does); the iteration
                gives placeholders for them, so that nothing is drawn twice.
            is_over: End the iteration after the skipped steps.
        """
        self.step, self._skip, self._is_over = step, skip, is_over

    def window(self, step: int) -> Ints:
        """The rows of the step after `step` finished ones, as the loader takes them."""
        return self.schedule.loaded(self.stream, step)

    def consume(self, step: int) -> Ints:
        """`window(step)`; not drawn again if the loader has drawn it already."""
        for passed in [s for s in self._ahead if s < step]:
            del self._ahead[passed]
        return self._ahead.pop(step) if step in self._ahead else self.window(step)

    def __iter__(self) -> Iterator[int]:
        first, skip = self.step, self._skip
        self._skip = 0
        last = first + (skip if self._is_over else self.schedule.steps_per_epoch)
        self.step = last
        yield from repeat(0, self.schedule.loaded_between(first, first + skip))
        for step in range(first + skip, last):
            self.drawn_steps = step + 1
            self._ahead[step] = self.window(step)
            yield from self._ahead[step].tolist()
