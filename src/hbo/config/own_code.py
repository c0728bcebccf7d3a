"""What a user writes as `pkg.module:name`: a reward or an actor of their own."""

from __future__ import annotations

import importlib
from typing import Any

from hbo.errors import ConfigError


def own_code(key: str, value: str, what: str) -> Any:
    """The function or class that `value` names; `what` says which of them the key `key` takes.

    Raises:
        ConfigError: It can't be imported, or can't be called.

    Example:
        >>> own_code("balance.local_reward", "math:sqrt", "function")(4)
        2.0
    """
    module, _, name = value.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # a module of the user's may raise anything
        raise ConfigError(f"{key} is '{value}', which can't be imported ({error})") from None
    if not callable(found):
        raise ConfigError(f"{key} is '{value}', which is not a {what}")
    return found
