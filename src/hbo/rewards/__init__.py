"""What the actors learn from, measured on the model as it stands.

A reward is `fn(model, batch, **context) -> Tensor[B]`, one number above 0 per row; the higher, the more the actor
wants to see of that choice. `context` holds what the one pass over the probes has measured already: `loss` (B,),
`reference` (B,), the loss under the untuned model, `gradient_norm` (B,) if any reward is one of `NORM_REWARDS`, and
`loss_alone` and `reference_alone` (B,), the losses without the instruction, if one is `ifd_ratio`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from hbo.config.rewards import DATASET_REWARDS
from hbo.errors import ConfigError, nearest
from hbo.rewards.per_row import (
    gradient_norm,
    ifd_ratio,
    loss,
    loss_ratio,
    perplexity,
    perplexity_ratio,
    token_gradient_norm,
)

Reward = Callable[..., Any]

REWARDS: dict[str, Reward] = {
    "gradient_norm": gradient_norm,
    "token_gradient_norm": token_gradient_norm,
    "perplexity_ratio": perplexity_ratio,
    "loss_ratio": loss_ratio,
    "ifd_ratio": ifd_ratio,
    "perplexity": perplexity,
    "loss": loss,
}
NORM_REWARDS = frozenset({gradient_norm, token_gradient_norm})
"""Those that need each row's gradient norm."""


def reward_function(key: str, value: str | Reward | None) -> Reward | None:
    """The function behind a reward's name, `pkg.module:function`, or the callable itself.

    Raises:
        ConfigError: There is no such reward.

    Example:
        >>> reward_function("global_reward", "loss").__name__
        'loss'
    """
    if value is None or callable(value):
        return value
    if value in REWARDS:
        return REWARDS[value]
    module, colon, name = value.partition(":")
    if not colon:
        names = [*REWARDS, *sorted(DATASET_REWARDS)] if key == "global_reward" else list(REWARDS)
        raise ConfigError(
            f"balance.{key} is '{value}', which is no reward{nearest(value, names)}; choose one of "
            f"{', '.join(names)}, or write pkg.module:function"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # a module of the user's may raise anything
        raise ConfigError(f"balance.{key} is '{value}', which can't be imported ({error})") from None
    if not callable(found):
        raise ConfigError(f"balance.{key} is '{value}', which is not a function")
    return found  # type: ignore[no-any-return]
