"""Hierarchical Balancing Optimization: fine-tune on a mixture that balances itself.

Names are loaded on first use, so that `import hbo` and `hbo --help` stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hbo.config import METHODS, HBOConfig
    from hbo.core.algorithm import HBO
    from hbo.core.groups import Groups
    from hbo.core.ledger import Ledger
    from hbo.core.stream import Stream
    from hbo.data.mixture import build_mixture
    from hbo.scoring.difficulty import stratify
    from hbo.training.callback import HBOCallback
    from hbo.training.sampler import HBOSampler

__version__ = "0.1.0"

_HOME = {
    "HBOConfig": "hbo.config",
    "HBOCallback": "hbo.training.callback",
    "build_mixture": "hbo.data.mixture",
    "stratify": "hbo.scoring.difficulty",
    "HBO": "hbo.core.algorithm",
    "Groups": "hbo.core.groups",
    "Stream": "hbo.core.stream",
    "Ledger": "hbo.core.ledger",
    "HBOSampler": "hbo.training.sampler",
    "METHODS": "hbo.config",
}

__all__ = [
    "HBO",
    "METHODS",
    "Groups",
    "HBOCallback",
    "HBOConfig",
    "HBOSampler",
    "Ledger",
    "Stream",
    "build_mixture",
    "stratify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hbo' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
