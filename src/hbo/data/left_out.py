"""What of a conversation a chat template leaves out of its text: thoughts, blanks at the ends, whole messages, tools.

Templates may cut as they like, and often mean it; but nobody looks for what isn't there, so it is counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hbo.data.canonical import Conversation
from hbo.data.chat import Span
from hbo.data.turns import Turn, is_target
from hbo.data.unusable import Counted


@dataclass
class LeftOut:
    """One dataset.

    Attributes:
        answers: Answers that are trained on.
        cut: Those of which a part is not in the text.
        trimmed: Those of which only white space at the ends is not.
        messages: Role → messages that are context and of which a part is not in the text.
        tools: Rows whose tools are not.
        first: The first row of each of these.
        folded: Rows whose system message stands in the user's.
        refused: Why the template refuses rows → how many, and where the first stands.
    """

    answers: int = 0
    cut: int = 0
    trimmed: int = 0
    messages: dict[str, int] = field(default_factory=dict)
    tools: int = 0
    first: dict[str, int] = field(default_factory=dict)
    folded: int = 0
    refused: Counted = field(default_factory=dict)

    def add(self, conversation: Conversation, text: str, spans: Sequence[Span], row: int) -> None:
        """Counts a row.

        Args:
            conversation: The row.
            text: Its text.
            spans: Characters of the answers that are trained on.
            row: Its number.
        """
        left = iter(spans)
        for i, turn in enumerate([*conversation.prompt, *conversation.completion]):
            if i >= len(conversation.prompt) and is_target(turn):
                self._add_answer(turn, text, next(left), row)
            elif not all(_stands(piece, text) for piece in _pieces(turn)):
                self.messages[turn["role"]] = self.messages.get(turn["role"], 0) + 1
                self.first.setdefault(turn["role"], row)
        if conversation.tools:
            before = text[: spans[0][0]] if spans else text
            if not all(_name(tool) in before for tool in conversation.tools):
                self.tools += 1
                self.first.setdefault("tools", row)

    def state(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return asdict(self)

    def _add_answer(self, turn: Turn, text: str, span: Span, row: int) -> None:
        self.answers += 1
        start, end = span
        kinds = {_cut(piece, text[max(0, start - len(piece)) : end]) for piece in _pieces(turn)}
        for kind in ("cut", "trimmed"):
            if kind in kinds:
                setattr(self, kind, getattr(self, kind) + 1)
                self.first.setdefault(kind, row)
                return


def _pieces(turn: Turn) -> list[str]:
    pieces: tuple[str | None, ...] = (turn["content"], turn.get("reasoning_content"))
    return [text for text in pieces if text and not text.isspace()]


def _cut(piece: str, text: str) -> str | None:
    """How `piece` fares in `text`. The text begins early enough for what a generation prompt writes of an answer."""
    if _stands_as_it_is(piece, text):
        return None
    if not _stands(piece, text):
        return "cut"
    return "trimmed" if piece != piece.strip() else None


def _stands(piece: str, text: str) -> bool:
    """Whether the text holds the piece, whatever is done to white space."""
    return _stands_as_it_is(piece, text) or "".join(piece.split()) in "".join(text.split())


def _stands_as_it_is(piece: str, text: str) -> bool:
    return piece in text or json.dumps(piece, ensure_ascii=False)[1:-1] in text


def _name(tool: Mapping[str, Any]) -> str:
    function = tool.get("function")
    return str(function["name"]) if isinstance(function, Mapping) and "name" in function else ""
