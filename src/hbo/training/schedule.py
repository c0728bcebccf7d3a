"""Which rows an optimizer step takes: where in the stream each begins, and what the loader makes of them.

Schedule            a row of the stream is a row of the loader; those of a step are sorted by length
RepeatedSchedule    a row of the stream is a prompt that the loader repeats, for trainers that generate
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hbo.arrays import Ints
from hbo.core.stream import Stream


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

    @property
    def loaded_per_epoch(self) -> int:
        """Rows that the loader takes in an epoch."""
        return self.rows_per_epoch

    def position(self, step: int) -> int:
        """Where in the stream the step after `step` finished ones begins; step · rows when epochs hold whole steps."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        return epochs * self.rows_per_epoch + steps * self.rows

    def is_cut(self, step: int, last: int) -> bool:
        """Whether `step` finished ones end inside an epoch whose last step is smaller and comes before `last`."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        return bool(steps) and self.last_rows < self.rows and last >= (epochs + 1) * self.steps_per_epoch

    def loaded(self, stream: Stream, step: int) -> Ints:
        """The rows that the loader takes for the step after `step` finished ones, shortest first."""
        rows = stream.rows(self.position(step), self.position(step + 1))
        lengths = stream.groups.length_N
        return rows if lengths is None else rows[np.argsort(lengths[rows], kind="stable")]

    def loaded_between(self, first: int, last: int) -> int:
        """How many rows the loader takes for the steps from `first` until before `last`, all of one epoch."""
        return self.position(last) - self.position(first)

    def saved(self) -> list[int]:
        """What a checkpoint holds of it."""
        return [self.rows, self.steps_per_epoch, self.last_rows]

    def is_as(self, saved: list[int]) -> bool:
        """Whether steps take as much of the stream as those of the schedule that was saved."""
        return saved[0] == self.rows and len(saved) == len(self.saved())

    def unlike(self, saved: list[int]) -> str:
        """What to say of a schedule that was saved and isn't as this one."""
        return (
            f"the checkpoint's steps have {saved[0]} rows, but this run's have {self.rows}; keep batch size × "
            "accumulation × processes as it was"
        )


@dataclass(frozen=True)
class Repeats:
    """How a trainer that generates repeats the prompts that it draws, as TRL's RepeatSampler does.

    Attributes:
        times: Rows of each prompt, one beside the other: a group of generations.
        prompts: Different prompts of a generation batch.
        batches: Batches of the loader, one after the other, that are the same generation batch.
    """

    times: int
    prompts: int
    batches: int


@dataclass(frozen=True)
class RepeatedSchedule(Schedule):
    """The schedule of a trainer that generates: positions of the stream are prompts, and the loader repeats them.

    A generation batch is taken from the stream where its first batch is loaded. A step that goes on with a batch begun
    before takes nothing; `rows` are the prompts of a generation batch.

    Attributes:
        repeats: How often each prompt and each batch comes.
        accumulation: Batches of the loader per step.
    """

    repeats: Repeats
    accumulation: int

    @classmethod
    def repeated(cls, batches: int, accumulation: int, repeats: Repeats) -> RepeatedSchedule:
        """The schedule of a loader with `batches` batches per epoch, whole generation batches."""
        steps = -(-batches // accumulation)
        taken = -(-(steps - 1) * accumulation // repeats.batches)  # generation batches begun before the last step
        last = (batches // repeats.batches - taken) * repeats.prompts
        return cls(repeats.prompts, steps, last, repeats, accumulation)

    @property
    def _batches(self) -> int:
        """Batches of the loader in an epoch."""
        return self.rows_per_epoch // self.repeats.prompts * self.repeats.batches

    @property
    def rows_per_epoch(self) -> int:
        """Prompts of an epoch."""
        return self._begun(self.steps_per_epoch - 1) * self.rows + self.last_rows

    @property
    def loaded_per_epoch(self) -> int:
        """Rows that the loader takes in an epoch, repeated ones counted each time."""
        return self.rows_per_epoch * self.repeats.times * self.repeats.batches

    def position(self, step: int) -> int:
        """Prompts taken by the first `step` steps."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        return epochs * self.rows_per_epoch + self._begun(steps) * self.rows

    def loaded(self, stream: Stream, step: int) -> Ints:
        """The rows that the loader takes for the step after `step` finished ones, in the order of the stream."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        last = min((steps + 1) * self.accumulation, self._batches)
        parts: dict[int, Ints] = {}
        numbers = [batch // self.repeats.batches for batch in range(steps * self.accumulation, last)]
        for number in dict.fromkeys(numbers):
            start = epochs * self.rows_per_epoch + number * self.rows
            parts[number] = np.repeat(stream.rows(start, start + self.rows), self.repeats.times)
        return np.concatenate([parts[number] for number in numbers])

    def loaded_between(self, first: int, last: int) -> int:
        """How many rows the loader takes for the steps from `first` until before `last`, all of one epoch."""
        batches = min((last - first) * self.accumulation, self._batches)
        return batches * self.repeats.times * self.repeats.prompts

    def saved(self) -> list[int]:
        """What a checkpoint holds of it."""
        return [*super().saved(), self.repeats.times, self.repeats.batches, self.accumulation]

    def is_as(self, saved: list[int]) -> bool:
        """Whether steps take as much of the stream as those of the schedule that was saved."""
        return super().is_as(saved) and saved[3:] == self.saved()[3:]

    def unlike(self, saved: list[int]) -> str:
        """What to say of a schedule that was saved and isn't as this one."""
        return (
            f"the checkpoint's generation batches have {saved[0]} prompts, or come more or less often than this run's, "
            f"which have {self.rows}; keep batch size, accumulation, processes and the options of generations as they "
            "were"
        )

    def _begun(self, steps: int) -> int:
        """Generation batches that an epoch's first `steps` steps begin."""
        return -(-steps * self.accumulation // self.repeats.batches)
