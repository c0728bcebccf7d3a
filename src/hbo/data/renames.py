"""Columns by names that are common elsewhere → the names that a format has for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hbo.data.columns import Cells
from hbo.data.formats import detect
from hbo.data.json_text import listed

_PAIRS = (  # what other datasets call a prompt and its completion
    ("question", "answer"), ("query", "response"), ("inputs", "targets"), ("problem", "solution"),
    ("prompt", "response"), ("prompt", "answer"), ("question", "response"), ("input", "output"),
    ("instruction", "answer"), ("source", "target"),
)  # fmt: skip
_CHATS = ("conversation", "dialog", "dialogue", "chat", "turns")


def renamed(row: Mapping[str, Any]) -> dict[str, str]:
    """Canonical name → column, for rows in no known format whose columns have names that are common elsewhere.

    Example:
        >>> renamed({"question": "1 + 1?", "answer": "2"})
        {'prompt': 'question', 'completion': 'answer'}
    """
    cells = Cells(row)
    if detect(cells) is not None:
        return {}
    for prompt, completion in _PAIRS:
        if prompt in row and completion in row:
            context = [name for name in cells.names.get("input", ()) if name != prompt][:1]
            return {"prompt": prompt, "completion": completion} | dict(zip(["input"], context, strict=False))
    for column in _CHATS:
        if isinstance(listed(row.get(column)), list):
            return {"messages": column}
    return {}
