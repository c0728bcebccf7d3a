"""Every method as one set of defaults: a new method is one entry of `SETTINGS`.

A level whose reward is None is frozen, so a static sampler is HBO with both levels frozen and
shares every line of code with it.
"""

from __future__ import annotations

import math
from typing import Any

from hbo.config import HBOConfig
from hbo.errors import ConfigError, nearest

_STATIC: dict[str, Any] = {"global_reward": None, "local_reward": None}

SETTINGS: dict[str, dict[str, Any]] = {
    # Wang et al. 2025: gradient norm over datasets, perplexity ratio over groups.
    "hbo": {},
    # The paper's static baselines, q ∝ n^(1/τ) with τ = 1, 10 and ∞.
    "proportional": _STATIC | {"temperature": 1.0},
    "temperature": _STATIC | {"temperature": 10.0},
    "uniform": _STATIC | {"temperature": math.inf},
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
