"""Values that a cell or a turn may hold as JSON text, and values that are stored as such: lists, objects, tools, calls.

    a call    {type: function, function: {name, arguments}}, with its `id` if it has one; arguments are an object
    a tool    {type: function, function: {name, description, parameters}}

Data spells calls and tools in many ways; these are the ones that chat templates read. Either may be JSON text, as a
whole or item by item, and may lack the outer object. Arguments that are text of anything but an object stay text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

_Object = dict[str, Any]

_WIDEST = 2**63  # what readers of JSON other than Python's take for a whole number


def listed(value: Any) -> Any:
    """`value`, or what it says if it is the JSON text of a list or an object, as cells of a CSV file hold it.

    Example:
        >>> listed('[{"role": "user"}]'), listed("[sic]"), listed("5")
        ([{'role': 'user'}], '[sic]', '5')
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def without_nulls(value: Any) -> Any:
    """`value` without the keys that are null, at any depth: columnar files give each object the keys of all others.

    Example:
        >>> without_nulls({"town": "Oslo", "country": None, "days": [{"from": 1, "to": None}]})
        {'town': 'Oslo', 'days': [{'from': 1}]}
    """
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def json_text(value: Any) -> str:
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


def calls_of(value: Any, *, fills_nulls: bool = False) -> list[_Object] | None:
    """The calls that a turn makes; None if `value` isn't a call, nor a list of calls.

    Args:
        value: What stands under `tool_calls`, or the text of a turn that is a call as a whole.
        fills_nulls: Whether the source gives each object the keys of all others, as columnar files do.

    Example:
        >>> calls_of('{"name": "add", "arguments": "{\\\\"a\\\\": 1}"}')
        [{'type': 'function', 'function': {'name': 'add', 'arguments': {'a': 1}}}]
    """
    return _all(value, _call, fills_nulls)


def tools_of(value: Any, *, fills_nulls: bool = False) -> list[_Object] | None:
    """The tools of a row; None if `value` isn't a list of tools.

    Example:
        >>> tools_of([{"name": "add", "parameters": {}}])
        [{'type': 'function', 'function': {'name': 'add', 'parameters': {}}}]
    """
    return _all(value, _tool, fills_nulls)


def _all(
    value: Any, read: Callable[[Mapping[str, Any], bool], _Object | None], fills_nulls: bool
) -> list[_Object] | None:
    """What `read` makes of each item of a list; None unless it makes JSON of every one."""
    items = listed(value)
    found = []
    for item in [items] if isinstance(items, Mapping) else items if isinstance(items, list) else [None]:
        each = listed(item)
        made = read(each, fills_nulls) if isinstance(each, Mapping) else None
        if made is None or not _is_json(made):
            return None
        found.append(made)
    return found


def _call(item: Mapping[str, Any], fills_nulls: bool) -> _Object | None:
    call = {key: each for key, each in item.items() if each is not None}
    function = listed(call.get("function"))
    if not isinstance(function, Mapping):
        function = {key: each for key, each in call.items() if key not in ("id", "type")}
        call = {key: call[key] for key in ("id",) if key in call} | {"type": "function"}
    name = function.get("name")
    if not isinstance(name, str) or not name:
        return None
    function = {"arguments" if key == "parameters" else key: each for key, each in function.items()}
    given = function.get("arguments")
    arguments = {} if given is None else listed(given)
    if fills_nulls and arguments is given:  # what was text has the nulls that its author wrote
        arguments = without_nulls(arguments)
    call = call if "type" in call else {"type": "function", **call}
    return {**call, "function": {**function, "arguments": arguments}}


def _tool(item: Mapping[str, Any], fills_nulls: bool) -> _Object | None:
    tool = dict(item)
    if not isinstance(tool.get("function"), Mapping):
        if not isinstance(tool.get("name"), str):
            return None
        tool = {"type": "function", "function": {key: each for key, each in tool.items() if key != "type"}}
    return without_nulls(tool) if fills_nulls else tool  # type: ignore[no-any-return]


def _is_json(value: Any) -> bool:
    try:
        json_text(value)
    except ValueError:
        return False
    return True


def _has_wide_number(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_wide_number, value.values()))
    if isinstance(value, list):
        return any(map(_has_wide_number, value))
    return isinstance(value, int) and not -_WIDEST <= value < _WIDEST
