"""Chooses the measurer that a configuration needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from hbo.arrays import Ints
from hbo.config import HBOConfig
from hbo.config.rewards import is_of_dataset, is_of_the_run, needs
from hbo.core.groups import Groups
from hbo.errors import ConfigError
from hbo.rewards import reward_function
from hbo.rewards.measurer import Measurer
from hbo.rewards.per_dataset import PerDataset
from hbo.rewards.probe import Probe
from hbo.rewards.streamed import Window


def measurer_for(
    rows: Dataset,
    groups: Groups,
    config: HBOConfig,
    *,
    pad_token_id: int,
    seed: int = 0,
    dev_K: Sequence[Ints] = (),
    opening: Sequence[int] = (),
    training_tokens: int | None = None,
) -> Measurer:
    """The measurer of `config`; arguments as `Probe` takes them, and `dev_K`, the rows that are set aside.

    Raises:
        ConfigError: A reward isn't known, or can't be measured in the way asked for.
        DataError: The rows have no tokens to measure it on.
    """
    key, whole = check_rewards(config)
    left = config.model_copy(update={key: None}) if is_of_dataset(whole) else config
    probe = Probe(
        rows, groups, left, pad_token_id=pad_token_id, seed=seed, opening=opening, training_tokens=training_tokens
    )
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
        if each != key or not (is_of_dataset(whole) or is_of_the_run(whole)):
            reward_function(each, getattr(config, each))
    if is_of_dataset(whole) and config.rewards == "stream":
        raise ConfigError(
            f"balance.rewards is 'stream', but {key} {whole} needs separate passes through the model; "
            f"set balance.rewards to probe"
        )
    if config.is_flat and "dev_rows" in needs(whole):
        raise ConfigError(
            f"balance.local_reward is '{whole}', which is measured on rows of each dataset that are set aside, and "
            f"method {config.method} rewards groups; choose another reward, or method hbo with it as global_reward"
        )
    return key, whole
