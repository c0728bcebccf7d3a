"""Every method of `balance.method`: a new one is one entry of `SETTINGS`.

A method is a set of defaults; `hbo.METHODS` has each one as an HBOConfig. A level whose reward is None is frozen: its
shares stay fixed. A static sampler is HBO with both levels frozen, and runs the same code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hbo.errors import ConfigError
from hbo.text import nearest

UPDATE_EVERY = 200
"""Steps between two updates in the paper."""


@dataclass(frozen=True)
class Method:
    """A method's defaults for the fields of HBOConfig, and what no field can say."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    is_flat: bool = False
    """One actor holds the groups of all datasets, instead of one for the datasets and one inside each."""
    is_stratified: bool = False
    """Every step has exactly the prior's shares, rounded to whole rows."""
    means_temperature: bool = False
    """The method's name fixes τ, so `mixture.temperature` has no effect on it."""
    is_placebo: bool = False
    """At each update the measured rewards are shuffled at random."""


_GLOBAL: dict[str, Any] = {"local_reward": None}
_STATIC: dict[str, Any] = {"global_reward": None, "local_reward": None}
_OURS: dict[str, Any] = _GLOBAL | {
    "actor": {"kind": "tracking"},
    "temperature": math.inf,
    "min_probability": 0.01,
}
_BY_LOSS: dict[str, Any] = _GLOBAL | {"global_reward": "loss"}

SETTINGS: dict[str, Method] = {
    # Wang et al. 2025: gradient norm over datasets, perplexity ratio over groups.
    "hbo": Method(),
    # The paper's static baselines, q ∝ n^(1/τ) with τ = 1, 10 and ∞.
    "proportional": Method(_STATIC | {"temperature": 1.0}, means_temperature=True),
    "temperature": Method(_STATIC | {"temperature": 10.0}),
    "uniform": Method(_STATIC | {"temperature": math.inf}, means_temperature=True),
    # Beyond the paper: the prior's exact shares in every step.
    "stratified": Method(_STATIC, is_stratified=True),
    # Controls, beyond the paper: their shares move as balancing moves them, but say nothing about the data.
    # hbo.rewards.clock, hbo.core.placebo.
    "annealed": Method(_GLOBAL | {"global_reward": "elapsed", "actor": {"kind": "annealed"}}),
    "placebo": Method(is_placebo=True),
    # The paper's dynamic baselines, each after its own paper; for details see the modules of their rewards:
    # hbo.rewards.alignment, .uncertainty and .transferability.
    "multidds": Method(
        _GLOBAL | {"global_reward": "gradient_alignment", "probes": 8, "update_every": 1000, "min_probability": 0.01}
    ),
    "multiuat": Method(_GLOBAL | {"global_reward": "entropy", "update_every": 1000}),
    "mos": Method(_GLOBAL | {"global_reward": "transferability", "probes": 64}),
    "mos+": Method({"global_reward": None}, is_flat=True),
    # Ours, named after their rewards: hbo.rewards.slope and .signal_norm.
    **{reward: Method(_OURS | {"global_reward": reward}) for reward in ("slope", "signal_norm", "token_signal_norm")},
    "gain": Method(_OURS | {"global_reward": "gain", "local_reward": "perplexity_ratio"}),  # hbo.rewards.gain
    # Beyond the paper; hbo.core.closed_form.
    "loss_softmax": Method(_BY_LOSS | {"actor": {"kind": "loss_softmax"}}),
    "exp3": Method(_BY_LOSS | {"actor": {"kind": "exp3"}}),
    "odm": Method(_BY_LOSS | {"actor": {"kind": "odm"}}),
}


def method_of(name: object) -> Method:
    """The method of this name.

    Raises:
        ConfigError: There is none.
    """
    if not isinstance(name, str) or name not in SETTINGS:
        raise ConfigError(f"unknown method {name!r}{nearest(str(name), SETTINGS)}; choose one of {', '.join(SETTINGS)}")
    return SETTINGS[name]


def is_flat(name: str) -> bool:
    """Whether one actor holds all groups; False for a method that this release doesn't know."""
    return name in SETTINGS and SETTINGS[name].is_flat


def is_placebo(name: str) -> bool:
    """Whether rewards are shuffled at random; False for a method that this release doesn't know."""
    return name in SETTINGS and SETTINGS[name].is_placebo


def follows_rewards(name: str) -> bool:
    """Whether shares follow what is measured of the model, as those of static samplers and controls don't.

    Example:
        >>> [follows_rewards(name) for name in ("hbo", "mos+", "uniform", "annealed", "no such method")]
        [True, True, False, False, False]
    """
    if name not in SETTINGS or is_placebo(name) or actor_kind(name) == "annealed":
        return False
    return any(SETTINGS[name].defaults.get(level, "") is not None for level in ("global_reward", "local_reward"))


def actor_kind(name: str) -> str:
    """The kind of a method's default actor; `softmax` for a method that this release doesn't know."""
    return str(SETTINGS.get(name, Method()).defaults.get("actor", {}).get("kind", "softmax"))
