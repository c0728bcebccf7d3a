"""Names of the rewards that a dataset has as a whole, by what they need."""

from __future__ import annotations

from collections.abc import Collection

_ALIGNMENTS = frozenset({"gradient_alignment", "lookahead_alignment"})
UNCERTAINTY_REWARDS = frozenset(
    {"entropy", "eos_entropy", "expected_probability", "sequence_probability", "variance", "combined", "dev_loss"}
)
DEV_REWARDS = _ALIGNMENTS | UNCERTAINTY_REWARDS
"""Rewards measured on rows of each dataset that are set aside for it."""
GRADIENT_REWARDS = _ALIGNMENTS | {"batch_gradient_norm"}
"""Rewards of a dataset's mean gradient."""
DATASET_REWARDS = DEV_REWARDS | GRADIENT_REWARDS | {"transferability"}
"""Rewards that a dataset has as a whole."""
SIGNED_REWARDS = _ALIGNMENTS | {"transferability"}
"""Rewards that may be negative, and then push a choice down."""


def is_one_of(reward: object, names: Collection[str]) -> bool:
    """Whether `reward` is one of these names; a reward of the user's own may be an object without a hash."""
    return isinstance(reward, str) and reward in names
