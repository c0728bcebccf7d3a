"""Calls of tools, and the tools that may be called, in the spellings that data has → the one that chat templates read.

    a call    {type: function, function: {name, arguments}}, with its `id` if it has one; arguments are an object
    a tool    {type: function, function: {name, description, parameters}}

Either may be JSON text, as a whole or item by item, and may lack the outer object. Arguments that are text of anything
but an object stay text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hbo.data.json_text import listed, without_nulls, written

Call = dict[str, Any]
Tool = dict[str, Any]


def calls_of(value: Any, *, fills_nulls: bool = False) -> list[Call] | None:
    """The calls that a turn makes; None if `value` isn't a call, nor a list of calls.

    Args:
        value: What stands under `tool_calls`, or the text of a turn that is a call as a whole.
        fills_nulls: Whether the source gives each object the keys of all others, as columnar files do.

    Example:
        >>> calls_of('{"name": "add", "arguments": "{\\\\"a\\\\": 1}"}')
        [{'type': 'function', 'function': {'name': 'add', 'arguments': {'a': 1}}}]
    """
    items = listed(value)
    items = [items] if isinstance(items, Mapping) else items
    if not isinstance(items, list):
        return None
    found = [_call(listed(item), fills_nulls) for item in items]
    return None if None in found else [call for call in found if call is not None]


def tools_of(value: Any, *, fills_nulls: bool = False) -> list[Tool] | None:
    """The tools of a row; None if `value` isn't a list of tools.

    Args:
        value: What stands in the column.
        fills_nulls: Whether the source gives each object the keys of all others.

    Example:
        >>> tools_of([{"name": "add", "parameters": {}}])
        [{'type': 'function', 'function': {'name': 'add', 'parameters': {}}}]
    """
    items = listed(value)
    items = [items] if isinstance(items, Mapping) else items
    if not isinstance(items, list):
        return None
    found = [_tool(listed(item), fills_nulls) for item in items]
    return None if None in found else [tool for tool in found if tool is not None]


def _call(item: Any, fills_nulls: bool) -> Call | None:
    if not isinstance(item, Mapping):
        return None
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
    call = {"type": "function", **call} if "type" not in call else call
    call["function"] = {**function, "arguments": arguments}
    return call if _is_json(call) else None


def _tool(item: Any, fills_nulls: bool) -> Tool | None:
    if not isinstance(item, Mapping):
        return None
    tool = dict(item)
    if not isinstance(tool.get("function"), Mapping):
        if not isinstance(tool.get("name"), str):
            return None
        tool = {"type": "function", "function": {key: each for key, each in tool.items() if key != "type"}}
    tool = without_nulls(tool) if fills_nulls else tool
    return tool if _is_json(tool) else None


def _is_json(value: Any) -> bool:
    try:
        written(value)
    except ValueError:
        return False
    return True
