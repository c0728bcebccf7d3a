"""From an actor's configuration to the actor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hbo.config.balance import ActorConfig
from hbo.core.actors import Actor, MLPActor, SoftmaxActor, TrackingActor
from hbo.core.closed_form import Exp3Actor, LossSoftmaxActor, ODMActor, Smoothed

Floats = NDArray[np.float64]


def actor_factory(config: ActorConfig) -> Callable[[Floats], Actor]:
    """What makes the actor that `config` describes from its prior (C,).

    Raises:
        Nothing.

    Example:
        >>> actor_factory(ActorConfig(kind="tracking"))(np.array([0.5, 0.5])).policy.tolist()
        [0.5, 0.5]
    """

    def plain(prior: Floats) -> Actor:
        match config.kind:
            case "softmax":
                return SoftmaxActor(prior, config.learning_rate, config.steps)
            case "mlp":
                return MLPActor(prior, config.learning_rate, config.steps, config.hidden)
            case "tracking":
                return TrackingActor(prior, config.rate)
            case "loss_softmax":
                return LossSoftmaxActor(prior)
            case "exp3":
                return Exp3Actor(prior)
            case "odm":
                return ODMActor(prior)

    return plain if config.ema == 1 else lambda prior: Smoothed(plain(prior), config.ema)
