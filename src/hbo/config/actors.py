"""The table of actors, by their names in `balance.actor.kind`.

A new actor is a class with `policy`, `learn`, `state_dict` and `load_state_dict`, and one entry of `ACTORS`. A method
or a user may also name a class directly: `pkg.module:Class`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ActorSpec:
    """What hbo knows of one actor."""

    made_by: str
    """Its class, `pkg.module:Class`; called with the prior (C,) and the settings of `balance.actor` that it takes."""
    takes_signed: bool = False
    """Whether a reward may be negative."""
    rests_at_rewards: bool = False
    """Whether its fixed point is p ∝ reward."""


ACTORS = {
    # One logit per choice (authors' code), two layers (paper's text), the closed form of both (ours).
    "softmax": ActorSpec("hbo.core.actors:SoftmaxActor", takes_signed=True, rests_at_rewards=True),
    "mlp": ActorSpec("hbo.core.actors:MLPActor", takes_signed=True, rests_at_rewards=True),
    "tracking": ActorSpec("hbo.core.actors:TrackingActor", rests_at_rewards=True),
    # Those of the methods of these names.
    "loss_softmax": ActorSpec("hbo.core.actors:LossSoftmaxActor"),
    "exp3": ActorSpec("hbo.core.actors:Exp3Actor"),
    "odm": ActorSpec("hbo.core.actors:ODMActor"),
    "annealed": ActorSpec("hbo.core.actors:AnnealedActor"),
}


def actor_spec(kind: str) -> ActorSpec:
    """The entry of an actor, or a default entry for a class that has none.

    Example:
        >>> actor_spec("exp3").rests_at_rewards, actor_spec("my_actors:Thompson").made_by
        (False, 'my_actors:Thompson')
    """
    return ACTORS.get(kind) or ActorSpec(kind, takes_signed=True)
