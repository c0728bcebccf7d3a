"""Every method as one set of defaults: a new method is one entry of `SETTINGS`.

A level whose reward is None is frozen, so a static sampler is HBO with both levels frozen and
shares every line of code with it.
"""

from __future__ import annotations

import math
from typing import Any

from hbo.config import HBOConfig
from hbo.errors import ConfigError, nearest

_GLOBAL: dict[str, Any] = {"local_reward": None}
_STATIC: dict[str, Any] = {"global_reward": None, "local_reward": None}

SETTINGS: dict[str, dict[str, Any]] = {
    # Wang et al. 2025: gradient norm over datasets, perplexity ratio over groups.
    "hbo": {},
    # The paper's static baselines, q ∝ n^(1/τ) with τ = 1, 10 and ∞.
    "proportional": _STATIC | {"temperature": 1.0},
    "temperature": _STATIC | {"temperature": 10.0},
    "uniform": _STATIC | {"temperature": math.inf},
    # Beyond the paper: the prior's exact shares in every step.
    "stratified": _STATIC,
    # The paper's dynamic baselines, each after its own paper; their rewards say more: hbo.rewards.alignment,
    # .uncertainty and .transferability.
    "multidds": _GLOBAL
    | {"global_reward": "gradient_alignment", "probes": 8, "update_every": 1000, "min_probability": 0.01},
    "multiuat": _GLOBAL | {"global_reward": "entropy", "update_every": 1000},
    "mos": _GLOBAL | {"global_reward": "transferability", "probes": 64},
    "mos+": {"global_reward": None},
    # Beyond the paper; hbo.core.closed_form.
    "loss_softmax": _GLOBAL | {"global_reward": "loss", "actor": {"kind": "loss_softmax"}},
    "exp3": _GLOBAL | {"global_reward": "loss", "actor": {"kind": "exp3"}},
    "odm": _GLOBAL | {"global_reward": "loss", "actor": {"kind": "odm"}},
}


def settings(method: object) -> dict[str, Any]:
    """The fields of HBOConfig that `method` sets.

    Raises:
        ConfigError: No such method.
    """
    if not isinstance(method, str) or method not in SETTINGS:
        raise ConfigError(
            f"the method is {method!r}, which is no method{nearest(str(method), SETTINGS)}; "
            f"choose one of {', '.join(SETTINGS)}"
        )
    return SETTINGS[method]


# Their names say what τ is, so a `mixture.temperature` written for other methods doesn't apply to them.
FIXED_TEMPERATURE = frozenset({"proportional", "uniform"})

METHODS: dict[str, HBOConfig] = {name: HBOConfig(method=name) for name in SETTINGS}
