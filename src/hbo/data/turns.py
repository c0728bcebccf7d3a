"""The turns of one conversation, in OpenAI's or ShareGPT's spelling → messages with canonical roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Turn = dict[str, str]

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""Every spelling of a role that is understood, and the role it becomes."""


class BadRowError(Exception):
    """A row that can't be used; says why, and the caller knows where."""


def text_of(value: Any, field: str) -> str:
    """`value` if it is a string that can be stored.

    Raises:
        BadRowError: It is null, something else than a string, or holds half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise BadRowError(f"{field} is {kind(value)}, not a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRowError(
            f"{field} holds an unpaired surrogate (character {error.start + 1}), which is no text"
        ) from None
    return value


def turns_of(value: Any, field: str) -> list[Turn]:
    """The messages of a list of `{role, content}` or `{from, value}`; other keys of a turn are ignored.

    Raises:
        BadRowError: It is no list, is empty, or holds a turn without a known role or without text.
    """
    if not isinstance(value, list):
        raise BadRowError(f"{field} is {kind(value)}, not a list of messages")
    if not value:
        raise BadRowError(f"{field} is an empty list")
    return [_turn(turn, f"{field}[{i}]") for i, turn in enumerate(value)]


def split_turns(turns: list[Turn]) -> tuple[list[Turn], list[Turn]]:
    """The turns before the first answer, and the rest up to the last answer.

    What stands after the last answer is left out: nothing answers it, so it could not teach anything.

    Raises:
        BadRowError: There is no answer.
    """
    answers = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not answers:
        raise BadRowError("the conversation has no assistant turn")
    return turns[: answers[0]], turns[answers[0] : answers[-1] + 1]


def kind(value: Any) -> str:
    """What a value is, in the words of JSON.

    Example:
        >>> kind(None), kind(3), kind(["a"])
        ('null', 'a number', 'a list')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    names: dict[type, str] = {str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")


def _turn(turn: Any, field: str) -> Turn:
    if not isinstance(turn, Mapping):
        raise BadRowError(f"{field} is {kind(turn)}, not an object")
    # Columnar files give every key to every turn, the ones of the other spelling as null.
    role_key = "role" if turn.get("role") is not None else "from"
    content_key = "content" if turn.get("content") is not None or "value" not in turn else "value"
    if role_key not in turn:
        raise BadRowError(f"{field} has no role; a turn is {{role, content}} or {{from, value}}")
    role = text_of(turn[role_key], f"{field}.{role_key}")
    if role.strip().lower() not in ROLES:
        raise BadRowError(f"{field}.{role_key} is '{role[:40]}', which is no known role ({', '.join(ROLES)})")
    content = _joined(turn.get(content_key), f"{field}.{content_key}")
    return {"role": ROLES[role.strip().lower()], "content": content}


def _joined(value: Any, field: str) -> str:
    if not isinstance(value, list):
        return text_of(value, field)
    for part in value:
        if not isinstance(part, Mapping) or part.get("type") != "text":
            raise BadRowError(f"{field} has a part that is no text; only text can be trained on")
    return "".join(text_of(part.get("text"), field) for part in value)
