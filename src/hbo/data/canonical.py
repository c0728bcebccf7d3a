"""The canonical row: a conversation cut into prompt and completion, and how it is stored in a table.

    prompt, completion    lists of {role, content}; a plain text is the completion [{role: text, content}]
    hbo_extra             JSON text, null in most rows: what the chat template gets beside the messages (`tools`,
                          `chat_template_kwargs`) and what turns have beyond role and content (`turns`: their number →
                          `reasoning_content`, `tool_calls`, `name`, `tool_call_id`, `weight`)
    hbo_dataset, hbo_row  where it comes from

So the schema is the same whatever the rows hold, and reading what most rows are, role and content alone, stays quick.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hbo.data.json_text import written
from hbo.data.turns import BadRowError, Turn

if TYPE_CHECKING:
    from datasets import Features

EXTRA = "hbo_extra"
"""The column of what is more than role and content; absent where no row has any."""


class Conversation(NamedTuple):
    """A row as it is trained on."""

    prompt: list[Turn]
    completion: list[Turn]
    tools: list[dict[str, Any]] | None = None
    template_kwargs: dict[str, Any] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What the chat template gets beside the messages."""
        return {**(self.template_kwargs or {}), **({"tools": self.tools} if self.tools else {})}


def features() -> Features:
    """The columns of the canonical table."""
    from datasets import Features, List, Value

    messages = List({"role": Value("string"), "content": Value("string")})
    text, number = Value("string"), Value("int64")
    return Features({"prompt": messages, "completion": messages, EXTRA: text, "hbo_dataset": text, "hbo_row": number})


def stored(row: Conversation) -> dict[str, Any]:
    """The cells of a conversation.

    Raises:
        BadRowError: Something in it can't be written as JSON.
    """
    turns = {
        str(i): {key: value for key, value in turn.items() if key not in ("role", "content")}
        for i, turn in enumerate([*row.prompt, *row.completion])
        if len(turn) > 2
    }
    extra = {"tools": row.tools, "chat_template_kwargs": row.template_kwargs, "turns": turns}
    kept = {key: value for key, value in extra.items() if value}
    try:
        text = written(kept) if kept else None
    except ValueError as error:
        raise BadRowError(f"{', '.join(kept)} can't be written as JSON ({error})") from None
    return {"prompt": row.prompt, "completion": row.completion, EXTRA: text}


def conversation_of(row: Mapping[str, Any]) -> Conversation:
    """The conversation of a canonical row."""
    prompt, completion = ([_turn(turn) for turn in row[side]] for side in ("prompt", "completion"))
    if not (text := row.get(EXTRA)):
        return Conversation(prompt, completion, _value(row.get("tools")), _value(row.get("chat_template_kwargs")))
    extra = json.loads(text)
    whole = [*prompt, *completion]
    for i, more in extra.get("turns", {}).items():
        whole[int(i)] |= more
    return Conversation(prompt, completion, extra.get("tools"), extra.get("chat_template_kwargs"))


def _turn(turn: Any) -> Turn:
    return dict(_value(turn))


def _value(value: Any) -> Any:
    # Tables for SFTTrainer hold turns and tools as JSON, which Arrow shows as text.
    return json.loads(value) if isinstance(value, str) else value
