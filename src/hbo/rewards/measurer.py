"""What training asks of whoever measures the rewards, and which measurer a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from torch import nn

from hbo.config import HBOConfig
from hbo.core.algorithm import Rewards
from hbo.core.groups import Groups
from hbo.rewards.probe import Probe
from hbo.rewards.window import Window

Reduce = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Measurer(Protocol):
    """Measures rewards without leaving a trace on the model."""

    def measure_reference(self, model: nn.Module) -> None:
        """Notes what later measurements are compared with; `model` is the untuned one."""

    def measure(
        self, model: nn.Module, step: int, *, rank: int = 0, ranks: int = 1, reduce: Reduce = np.copy
    ) -> Rewards:
        """Rewards on `model` as it stands after `step` optimizer steps; each process measures its share."""

    def state_dict(self) -> dict[str, Any]:
        """All it has noted, as JSON values: it goes into the checkpoints, and from the first process to all."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""


def measurer_for(rows: Dataset, groups: Groups, config: HBOConfig, *, pad_token_id: int, seed: int = 0) -> Measurer:
    """The measurer of `config`; arguments as `Probe` takes them.

    Raises:
        ConfigError: A reward isn't known.
        DataError: The rows have no tokens to measure it on.
    """
    probe = Probe(rows, groups, config, pad_token_id=pad_token_id, seed=seed)
    return Window(probe) if config.rewards == "stream" and not config.is_static else probe
