"""What a user writes under `balance.actor`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hbo.section import Section


class ActorConfig(Section):
    """How an actor turns rewards into probabilities."""

    kind: Literal["softmax", "mlp", "tracking", "loss_softmax", "exp3", "odm"] = "softmax"
    """One logit per choice (authors' code), two layers (paper's text), the closed form (ours), or that of a method."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-4
    """Adam step of `softmax` and `mlp`."""
    steps: Annotated[int, Field(ge=1)] = 200
    """Adam steps per update of `softmax` and `mlp`."""
    hidden: Annotated[int, Field(ge=1)] = 32
    """Hidden units of `mlp`."""
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the way, in log space, that `tracking` goes towards p ∝ reward per update."""
    ema: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Weight of the newest reward in the moving average, begun at 1, that an actor learns from; 1: no average."""
