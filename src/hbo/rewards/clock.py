"""A reward that depends on time alone: for method `annealed`, a control that learns from no row.

R_i = t / T of every dataset i after t of T steps. The actor `annealed` (`hbo.core.closed_form.annealed`) turns it into
its sampling temperature.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from hbo.arrays import Floats
from hbo.core.algorithm import Rewards
from hbo.rewards.measurer import Measurer, Standing, Step
from hbo.scoring.processes import ALONE, Processes


def elapsed(standing: Standing) -> Floats:
    """The fraction of the run that is done, at most 1, the same for each dataset (K,).

    Example:
        >>> elapsed(Standing(step=5, steps=20, drawn_KL=np.ones((2, 1), dtype=np.int64))).tolist()
        [0.25, 0.25]
    """
    return np.full(len(standing.drawn_KL), min(1.0, standing.step / standing.steps))


class Clock(Measurer):
    """Gives the datasets the time as their reward, and leaves the groups to `inner`.

    Args:
        inner: What measures the groups' reward, if there is one.
        is_static: Whether there is none, so that nothing need be measured.
    """

    def __init__(self, inner: Measurer, *, is_static: bool) -> None:
        self.inner, self.is_static = inner, is_static
        self._standing: Standing | None = None

    def before_update(self, standing: Standing) -> None:
        """Notes the time."""
        self._standing = standing
        self.inner.before_update(standing)

    def measure(self, model: nn.Module, step: int, processes: Processes = ALONE) -> Rewards:
        """The time, and what `inner` measures."""
        assert self._standing is not None
        rewards = Rewards() if self.is_static else self.inner.measure(model, step, processes)
        return replace(rewards, global_K=elapsed(self._standing))

    def settle(self, model: nn.Module, processes: Processes = ALONE) -> str:
        """As `inner` does."""
        return self.inner.settle(model, processes)

    def measure_reference(self, model: nn.Module, processes: Processes = ALONE) -> None:
        """As `inner` does."""
        self.inner.measure_reference(model, processes)

    def before_step(self, model: nn.Module, step: Step) -> None:
        """As `inner` does."""
        self.inner.before_step(model, step)

    def after_step(self, processes: Processes = ALONE) -> float:
        """As `inner` does."""
        return self.inner.after_step(processes)

    def close(self) -> None:
        """As `inner` does."""
        self.inner.close()

    def state_dict(self) -> dict[str, Any]:
        """The state of `inner`; the time itself is kept by the trainer."""
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.inner.load_state_dict(state)
