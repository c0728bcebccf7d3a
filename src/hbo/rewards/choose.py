"""What training asks of whoever measures the rewards, and which measurer a configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from torch import nn

from hbo.config import HBOConfig
from hbo.config.rewards import is_of_dataset
from hbo.core.algorithm import Rewards
from hbo.core.groups import Groups
from hbo.errors import ConfigError
from hbo.rewards import reward_function
from hbo.rewards.per_dataset import PerDataset
from hbo.rewards.probe import Probe
from hbo.rewards.streamed import Window
from hbo.scoring.processes import ALONE, Processes


class Measurer(Protocol):
    """Measures rewards without leaving a trace on the model."""

    def settle(self, model: nn.Module, processes: Processes = ALONE) -> str:
        """Tries, before the first step, all that an update does; how it will be done, in a sentence."""

    def measure_reference(self, model: nn.Module, processes: Processes = ALONE) -> None:
        """Notes what later measurements are compared with; `model` is the untuned one."""

    def measure(self, model: nn.Module, step: int, processes: Processes = ALONE) -> Rewards:
        """Rewards on `model` as it stands after `step` optimizer steps; each process measures its share."""

    def state_dict(self) -> dict[str, Any]:
        """All it has noted, as JSON values: it goes into the checkpoints, and from the first process to all."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""


def measurer_for(
    rows: Dataset,
    groups: Groups,
    config: HBOConfig,
    *,
    pad_token_id: int,
    seed: int = 0,
    dev_K: Sequence[NDArray[np.int64]] = (),
    opening: Sequence[int] = (),
) -> Measurer:
    """The measurer of `config`; arguments as `Probe` takes them.

    Args:
        rows: As there.
        groups: As there.
        config: As there.
        pad_token_id: As there.
        seed: As there.
        dev_K: Rows of each dataset that are set aside.
        opening: As there.

    Raises:
        ConfigError: A reward isn't known, or can't be measured in the way asked for.
        DataError: The rows have no tokens to measure it on.
    """
    key, whole = check_rewards(config)
    left = config.model_copy(update={key: None}) if is_of_dataset(whole) else config
    probe = Probe(rows, groups, left, pad_token_id=pad_token_id, seed=seed, opening=opening)
    if is_of_dataset(whole):
        return PerDataset(probe, config, whole, list(dev_K))
    return Window(probe) if config.rewards == "stream" and not config.is_static else probe


def check_rewards(config: HBOConfig) -> tuple[str, Any]:
    """The key whose reward may be one that a dataset has as a whole, and that reward, of rewards that all exist.

    Raises:
        ConfigError: A reward isn't known, or can't be measured in the way asked for.
    """
    key = "local_reward" if config.is_flat else "global_reward"
    whole = getattr(config, key)
    for each in ("global_reward", "local_reward"):
        if each != key or not is_of_dataset(whole):
            reward_function(each, getattr(config, each))
    if is_of_dataset(whole) and config.rewards == "stream":
        raise ConfigError(f"balance.rewards is 'stream', but {key} {whole} needs passes of its own; set it to probe")
    return key, whole
