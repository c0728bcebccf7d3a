"""Trainers that are measured by their own `compute_loss`, because it is no mean over the tokens of `labels`.

DPOTrainer is one: its loss compares two responses with what a reference model makes of them. The rows, their
collation, the reference and the formula all stay the trainer's.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor
from transformers import Trainer

from hbo.config import HBOConfig
from hbo.config.rewards import REWARDS
from hbo.errors import ConfigError

OWN_LOSS = frozenset({"trl.trainer.dpo_trainer.DPOTrainer"})
"""Classes, with all that derive from them. One more must keep its records in `_metrics`, as TRL's trainers do."""

_PAIR = {"prompt_ids": 2, "chosen_ids": 1, "rejected_ids": 1}  # how often a column's tokens are run
_BATCH = 1000


def has_own_loss(trainer: Trainer) -> bool:
    """Whether the trainer is of a class named in `OWN_LOSS`."""
    # By name, so that no trainer's module is imported for the asking.
    return any(f"{kind.__module__}.{kind.__qualname__}" in OWN_LOSS for kind in type(trainer).__mro__)


def pair_lengths(rows: Dataset) -> NDArray[np.int32] | None:
    """The tokens (N,) of each preference row, prompt + chosen + prompt + rejected; None when rows aren't such."""
    if not _PAIR.keys() <= set(rows.column_names):
        return None
    tables = rows.select_columns(list(_PAIR)).with_format("arrow").iter(_BATCH)
    parts = [
        sum(count * pc.list_value_length(table[name]).to_numpy() for name, count in _PAIR.items()) for table in tables
    ]
    return np.concatenate([np.empty(0, np.int32), *parts]).astype(np.int32)


def own_loss_config(trainer: Trainer, config: HBOConfig) -> HBOConfig:
    """`config` as it holds for this trainer: a default that presumes a token loss gives way to one that doesn't.

    The exponential of a loss that is no mean over tokens is no perplexity, so where nobody chose a local reward it is
    the loss itself that is taken over its start: `loss_ratio`.

    Raises:
        ConfigError: What was chosen can't be measured on such a loss.
    """
    if not has_own_loss(trainer) or config.is_static:
        return config
    what = f"{type(trainer).__name__}'s loss is no mean over target tokens"
    if config.local_reward == "perplexity_ratio" and "local_reward" not in config.model_fields_set:
        config = config.model_copy(update={"local_reward": "loss_ratio"})
    if config.rewards == "stream":
        raise ConfigError(
            f"balance.rewards is 'stream', but {what}, so it can't be read off the batches; set it to probe"
        )
    for key in ("global_reward", "local_reward"):
        reward = getattr(config, key)
        fitting = [name for name, spec in REWARDS.items() if spec.fits_any_loss]
        if isinstance(reward, str) and ":" not in reward and reward not in fitting:
            raise ConfigError(
                f"balance.{key} is '{reward}', but {what}; choose one of {', '.join(fitting)}, or write "
                "pkg.module:function"
            )
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ConfigError(
            f"{what}, so it is measured one row at a time on a whole model, which no process holds under FSDP or "
            "DeepSpeed; train without them, or choose a static method"
        )
    return config


class TrainerLoss:
    """The loss of single rows by the trainer itself; an `hbo.rewards.objective.Objective`.

    Args:
        trainer: Of a class named in `OWN_LOSS`.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def batch(self, row: int) -> Any:
        """The row as the trainer would collate it, on the trainer's device."""
        return self.trainer._prepare_inputs(self.trainer.data_collator([self.trainer.train_dataset[row]]))

    def loss(self, model: Any, batch: Any) -> Tensor:
        """The loss () of a batch; the trainer's records and token counts stay as they are."""
        trainer = self.trainer
        records, mode = trainer._metrics, trainer.model.training
        trainer._metrics = {name: defaultdict(list) for name in records}
        trainer.model.training = False  # what a trainer counts tokens by; submodules have modes of their own
        try:
            with trainer.compute_loss_context_manager():
                loss: Tensor = trainer.compute_loss(model, batch)
            return loss
        finally:
            trainer._metrics, trainer.model.training = records, mode

    def replayed(self, row: int, policy: Any, reference: Any | None) -> float:
        """The loss of a row whose passes have been made: `policy` and `reference` give back their outputs.

        Args:
            row: Its number.
            policy: Stands for the model.
            reference: Stands for the reference model, whatever it is made of; None: the row holds its outcome.
        """
        kept = self.trainer.ref_model
        try:
            if reference is not None:
                self.trainer.ref_model = reference
            with torch.no_grad():
                return float(self.loss(policy, self.batch(row)))
        finally:
            self.trainer.ref_model = kept
