"""The interfaces between training and what watches its steps or measures rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from hbo.arrays import Ints
from hbo.core.algorithm import Rewards
from hbo.scoring.processes import ALONE, Processes


@dataclass(frozen=True)
class Step:
    """An optimizer step that is about to be made.

    Attributes:
        done: Steps before it.
        batches: The rows of its micro-batches in this process, in the order in which they will come.
        rows: How many rows it takes in all processes.
        is_due: Whether an update follows once so many steps are done.
    """

    done: int
    batches: Sequence[Ints]
    rows: int
    is_due: Callable[[int], bool]


@dataclass(frozen=True)
class Standing:
    """How far training is when rewards are wanted.

    Attributes:
        step: Optimizer steps done.
        steps: Those of the whole run.
        drawn_KL: Rows that training has taken of each group so far.
    """

    step: int
    steps: int
    drawn_KL: Ints

    @property
    def to_come(self) -> int:
        """Rows that training will still take, if it goes on as until now."""
        return round(int(self.drawn_KL.sum()) * (self.steps / max(1, self.step) - 1))


class StepWatcher(Protocol):
    """Watches the passes of training steps without changing any tensor. By default it does nothing.

    Every process must make the same calls in the same order.
    """

    def before_step(self, model: nn.Module, step: Step) -> None:
        """Called when a step is about to begin."""
        return

    def after_step(self, processes: Processes = ALONE) -> float:
        """Called when the step is over; returns how many seconds of it the watching took."""
        return 0.0

    def close(self) -> None:
        """Takes every hook off the model."""
        return


class Measurer(StepWatcher, Protocol):
    """Measures rewards without leaving a trace on the model."""

    def settle(self, model: nn.Module, processes: Processes = ALONE) -> str:
        """Tries, before the first step, all that an update does; how it will be done, in a sentence."""

    def measure_reference(self, model: nn.Module, processes: Processes = ALONE) -> None:
        """Records what later measurements are compared with; `model` is the untuned one."""

    def before_update(self, standing: Standing) -> None:
        """Called before `measure`; does nothing unless rewards depend on the past."""
        return

    def measure(self, model: nn.Module, step: int, processes: Processes = ALONE) -> Rewards:
        """Rewards on `model` as it stands after `step` optimizer steps; each process measures its share."""

    def state_dict(self) -> dict[str, Any]:
        """All it has recorded, as JSON values, for checkpoints; the first process sends it to all others."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
