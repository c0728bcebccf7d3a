"""Rewards: what the actors learn from, measured on the model at its present state.

A reward of a row is `fn(model, batch, **context) -> Tensor (B,)`, one number above 0 per row; the higher it is, the
more rows the actor draws from that choice. `context` holds what the one pass over the probes has already measured:
`loss` (B,); `reference` (B,), the loss under the untuned model; `gradient_norm` (B,) if a reward needs it; `loss_alone`
and `reference_alone` (B,), the losses without the instruction, if a reward needs them. `hbo.config.rewards` lists what
each reward needs and where its function is.

    measurer        the interface that training uses; `choose` makes the measurer that a configuration needs
    probe           rows measured only for this purpose, in `passes` over rows or packed `examples`
    streamed        rewards read off the training batches instead, each by an `observer`
    objective       rewards on the loss of a trainer whose loss isn't a mean over target tokens
    gradients       each row's gradient norm, computed by norms/
    per_row         functions of a row's loss and gradient norm
    per_dataset     rewards of whole datasets, a file per method: alignment, uncertainty, transferability
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from hbo.config import HBOConfig
from hbo.config.own_code import own_code
from hbo.config.rewards import REWARDS, spec_of
from hbo.errors import ConfigError
from hbo.text import nearest

Reward = Callable[..., Any]
Functions = tuple[Reward | None, Reward | None]
"""Of the datasets and of the groups; None: that level is frozen."""


def reward_functions(config: HBOConfig) -> Functions:
    """The functions behind a configuration's rewards of rows.

    Raises:
        ConfigError: There is no such reward.
    """
    return reward_function("global_reward", config.global_reward), reward_function("local_reward", config.local_reward)


def reward_function(key: str, value: str | Reward | None) -> Reward | None:
    """The function behind the name of a reward of rows, `pkg.module:function`, or the callable itself.

    Raises:
        ConfigError: There is no such reward.

    Example:
        >>> reward_function("global_reward", "loss").__name__
        'loss'
    """
    if value is None or callable(value):
        return value
    if value in REWARDS and REWARDS[value].of_a_row:
        return built_in(value)
    if ":" not in value:
        names = [name for name, spec in REWARDS.items() if spec.of_a_row or key == "global_reward"]
        raise ConfigError(
            f"balance.{key} is '{value}', an unknown reward{nearest(value, names)}; choose one of "
            f"{', '.join(names)}, or write pkg.module:function"
        )
    function: Reward = own_code(f"balance.{key}", value, "function")
    return function


def built_in(reward: str | Reward) -> Reward:
    """The function of a reward that the table has."""
    spec = spec_of(reward)
    assert spec is not None
    module, _, name = spec.function.partition(":")
    function: Reward = getattr(importlib.import_module(module), name)
    return function
