"""Values that stand in a column as JSON text, and values that are stored as such."""

from __future__ import annotations

import json
from typing import Any

_WIDEST = 2**63  # what readers of JSON other than Python's take for a whole number


def parsed(text: str) -> Any:
    """What a JSON text says; None if it is none.

    Example:
        >>> parsed('[{"role": "user"}]'), parsed("[sic]")
        ([{'role': 'user'}], None)
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def listed(value: Any) -> Any:
    """`value`, or what it says if it is the JSON text of a list or an object, as cells of a CSV file hold it.

    Example:
        >>> listed('[{"role": "user"}]'), listed("[sic]"), listed("5")
        ([{'role': 'user'}], '[sic]', '5')
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    found = parsed(value)
    return found if isinstance(found, list | dict) else value


def without_nulls(value: Any) -> Any:
    """`value` without the keys that are null, at any depth: columnar files give each object the keys of all others.

    Example:
        >>> without_nulls({"town": "Oslo", "country": None, "days": [{"from": 1, "to": None}]})
        {'town': 'Oslo', 'days': [{'from': 1}]}
    """
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def written(value: Any) -> str:
    """The JSON text of `value`.

    Raises:
        ValueError: It is nothing that JSON has: NaN, bytes, a date, half a surrogate pair, a number beyond 64 bits.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if any(character.isdigit() for character in text) and _has_wide_number(value):
        raise ValueError("a number beyond 64 bits")
    return text


def _has_wide_number(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_wide_number(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_wide_number(item) for item in value)
    return isinstance(value, int) and not -_WIDEST <= value < _WIDEST
