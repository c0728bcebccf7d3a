"""Trainers that make completions of their prompts while they train (GRPO, RLOO, …): what can be measured on a prompt.

Their loss needs the completions, so none of hbo's rewards, which all follow from a row's loss, can be measured. A
function of the user's can: it is given the row as the trainer collates it, and may generate itself.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from hbo.config import HBOConfig
from hbo.config.rewards import spec_of
from hbo.core.groups import Groups
from hbo.errors import ConfigError
from hbo.rewards.objective import OwnLossProbe
from hbo.scoring.processes import ALONE, Processes


def generated_config(trainer: Trainer, config: HBOConfig) -> HBOConfig:
    """`config` as it holds for a trainer that generates: beside a global reward of the user's own, a local one that
    nobody chose is frozen.

    Raises:
        ConfigError: What was chosen can't be measured on prompts.
    """
    if config.is_static:
        return config
    is_own = config.global_reward is not None and spec_of(config.global_reward) is None
    if is_own and "local_reward" not in config.model_fields_set:
        config = config.model_copy(update={"local_reward": None})
    what = f"{type(trainer).__name__}'s loss needs completions that are generated while training"
    if config.rewards == "stream":
        raise ConfigError(f"balance.rewards is 'stream', but {what}; set it to probe")
    for key in ("global_reward", "local_reward"):
        reward = getattr(config, key)
        if reward is not None and spec_of(reward) is not None:
            raise ConfigError(
                f"balance.{key} is '{reward}', but {what}, so it can't be measured on a row; name a function of yours "
                "(pkg.module:function), or choose a method that measures nothing (proportional, temperature, uniform, "
                "stratified)"
            )
    return config


class PromptProbe(OwnLossProbe):
    """Measures functions of the user's on single rows of such a trainer; there is no loss to give them, so it is NaN.

    Args:
        trainer: Whose rows they are.
        groups: Groups of these.
        config: Rewards and numbers of probes.
        seed: Key of the pool and the probes.
    """

    def __init__(self, trainer: Trainer, groups: Groups, config: HBOConfig, *, seed: int = 0) -> None:
        super().__init__(_PromptRows(trainer), groups, config, seed=seed)

    def settle(self, model: nn.Module, processes: Processes = ALONE) -> str:
        """Measures a few rows, as an update does.

        Raises:
            RewardError: A reward can't be measured.
        """
        self.tried(model, self.functions, processes)
        return "rewards are what your function gives for single rows, before any completion"

    def measure_reference(self, model: nn.Module, processes: Processes = ALONE) -> None:
        """Nothing: without a loss there is none at the start."""


class _PromptRows:
    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.name = trainer, type(trainer).__name__

    def apart(self) -> AbstractContextManager[None]:
        return nullcontext()

    def batch(self, row: int) -> Any:
        return self.trainer.data_collator([self.trainer.train_dataset[row]])

    def loss(self, model: Any, batch: Any) -> Tensor:
        return torch.tensor(float("nan"))
