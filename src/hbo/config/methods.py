"""Every method of `balance.method`: a new one is one entry of `SETTINGS`.

A method is a set of defaults, `hbo.METHODS` has each as an HBOConfig. A level whose reward is None is frozen, so a
static sampler is HBO with both levels frozen and shares every line of code with it.
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
    """Defaults of HBOConfig's fields, and what no field can say."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    is_flat: bool = False
    """One actor holds the groups of all datasets, instead of one for the datasets and one inside each."""
    is_stratified: bool = False
    """The rows of every step have the exact shares."""
    means_temperature: bool = False
    """The name says what τ is, so that a `mixture.temperature` written for other methods doesn't apply."""
    is_placebo: bool = False
    """Each update deals the measured rewards out anew, by chance."""


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
    # Controls, beyond the paper: they move as balancing does, and know nothing. hbo.rewards.clock, hbo.core.placebo.
    "annealed": Method(_GLOBAL | {"global_reward": "elapsed", "actor": {"kind": "annealed"}}),
    "placebo": Method(is_placebo=True),
    # The paper's dynamic baselines, each after its own paper; their rewards say more: hbo.rewards.alignment,
    # .uncertainty and .transferability.
    "multidds": Method(
        _GLOBAL | {"global_reward": "gradient_alignment", "probes": 8, "update_every": 1000, "min_probability": 0.01}
    ),
    "multiuat": Method(_GLOBAL | {"global_reward": "entropy", "update_every": 1000}),
    "mos": Method(_GLOBAL | {"global_reward": "transferability", "probes": 64}),
    "mos+": Method({"global_reward": None}, is_flat=True),
    # Beyond the paper; hbo.core.closed_form.
    # Ours, each after its reward: hbo.rewards.slope, .influence and .signal_norm.
    "slope": Method(_OURS | {"global_reward": "slope"}),
    **{
        reward: Method(_OURS | {"global_reward": reward})
        for reward in ("influence", "signal_norm", "token_signal_norm")
    },
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
    """Whether one actor holds all groups; False for the method of another release."""
    return name in SETTINGS and SETTINGS[name].is_flat


def is_placebo(name: str) -> bool:
    """Whether rewards are dealt out anew by chance; False for the method of another release."""
    return name in SETTINGS and SETTINGS[name].is_placebo


def actor_kind(name: str) -> str:
    """The kind of the actor that a method comes with; the default for the method of another release."""
    return str(SETTINGS.get(name, Method()).defaults.get("actor", {}).get("kind", "softmax"))
