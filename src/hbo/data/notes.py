"""What is to be said of the rows beside their number: columns that nobody reads, and what a chat template leaves out.

Templates may cut thoughts, blanks at the ends, whole messages and tools as they like, and often mean it; but nobody
looks for what isn't there, so it is counted while rows are tokenized.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from hbo.data.cache import notes_of
from hbo.data.canonical import Conversation
from hbo.data.chat import Span
from hbo.data.formats import FORMATS
from hbo.data.reader import Account
from hbo.data.turns import Turn, is_target
from hbo.data.unusable import Counted, counted_rows, reasons_told
from hbo.text import visible

_PAIRS = "hbo trains on `chosen` alone; examples/dpo.py trains on pairs"
_KEYS = "read are role, content, reasoning_content, tool_calls, name, tool_call_id, weight and train"
MEANINGS = {
    "chosen": "the answer stands in another column; `format: preference` trains on `chosen`",
    "rejected": _PAIRS,
    "rejected_response": _PAIRS,
    "chosen_response": "`columns: {chosen: chosen_response}` trains on it",
    "label": "where it marks answers that are not wanted, choose with `where: {label: true}`",
}
"""Columns that, unread, may change what a row means → what to do about them."""


@dataclass(frozen=True)
class Note:
    """One sentence."""

    text: str
    is_warning: bool = False
    """Whether a run should say it too, not only `hbo check`."""


@dataclass
class LeftOut:
    """What the chat template leaves out of the rows of one dataset."""

    answers: int = 0
    """Answers that are trained on."""
    cut: int = 0
    """Those of which a part is not in the text."""
    trimmed: int = 0
    """Those of which only white space at the ends is not."""
    messages: dict[str, int] = field(default_factory=dict)
    """Role → messages that are context and of which a part is not in the text."""
    tools: int = 0
    """Rows whose tools are not."""
    first: dict[str, int] = field(default_factory=dict)
    """The first row of each of these."""
    folded: int = 0
    """Rows whose system message stands in the user's."""
    refused: Counted = field(default_factory=dict)
    """Why the template refuses rows → how many, and where the first stands."""

    def add(self, conversation: Conversation, text: str, spans: Sequence[Span], row: int) -> None:
        """Counts a row, by its text and the characters of the answers in it that are trained on."""
        left = iter(spans)
        for i, turn in enumerate([*conversation.prompt, *conversation.completion]):
            if i >= len(conversation.prompt) and is_target(turn):
                self._add_answer(turn, text, next(left), row)
            elif not all(_stands(piece, text) for piece in _pieces(turn)):
                self.messages[turn["role"]] = self.messages.get(turn["role"], 0) + 1
                self.first.setdefault(turn["role"], row)
        if conversation.tools:
            before = text[: spans[0][0]] if spans else text
            if not all(_tool_name(tool) in before for tool in conversation.tools):
                self.tools += 1
                self.first.setdefault("tools", row)

    def _add_answer(self, turn: Turn, text: str, span: Span, row: int) -> None:
        self.answers += 1
        start, end = span
        # The text begins early enough for what a generation prompt writes of an answer.
        kinds = {_cut(piece, text[max(0, start - len(piece)) : end]) for piece in _pieces(turn)}
        if "cut" in kinds:
            self.cut += 1
            self.first.setdefault("cut", row)
        elif "trimmed" in kinds:
            self.trimmed += 1
            self.first.setdefault("trimmed", row)


def _pieces(turn: Turn) -> list[str]:
    pieces: tuple[str | None, ...] = (turn["content"], turn.get("reasoning_content"))
    return [text for text in pieces if text and not text.isspace()]


def _cut(piece: str, text: str) -> str | None:
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


def _tool_name(tool: Mapping[str, Any]) -> str:
    function = tool.get("function")
    return str(function["name"]) if isinstance(function, Mapping) and "name" in function else ""


def accounts_of(data: Dataset) -> list[Account]:
    """What became of the rows of each source, as `read_mixture` noted it."""
    return [Account(**state) for state in notes_of(data) or ()]


def of_reading(data: Dataset) -> Iterator[Note]:
    """What to say of the rows that `read_mixture` gives: formats that are mixed, columns and keys that aren't read."""
    for account in accounts_of(data):
        yield from of_account(account)


def of_account(account: Account) -> Iterator[Note]:
    """The same of one source."""
    name = f"dataset '{account.dataset}'"
    if len(account.formats) > 1:
        parts = (f"{count} {form} (the first: {first})" for form, (count, first) in account.formats.items())
        yield Note(f"{name}: its rows are of several formats: {', '.join(parts)}")
    plain = {
        " ".join(visible(column).split()): _rows(count)
        for column, (count, _) in account.unread.items()
        if column not in MEANINGS
    }
    if columns := [f"{column} ({rows})" for column, rows in plain.items() if "[]." not in column]:
        places = {each.context for each in FORMATS if each.name in account.formats}
        place = "system" if "system" in places else "input"
        way = "" if None in places else f"`columns: {{{place}: NAME}}` puts one before the answer, "
        told = f"columns that are not read: {', '.join(columns)}"
        yield Note(f"{name}: {told}; {way}`where` chooses rows by one, `group_by` splits")
    if keys := [f"{key} ({rows})" for key, rows in plain.items() if "[]." in key]:
        yield Note(f"{name}: keys of turns that are not read: {', '.join(keys)}; {_KEYS}")
    if account.unusable:
        yield _lost(f"{name}: of {account.path} {_rows(counted_rows(account.unusable))}", account.unusable)
    for column, (count, _) in account.unread.items():
        if column in MEANINGS:
            yield Note(f"{name}: the column {column} ({_rows(count)}) is not read; {MEANINGS[column]}", True)


def of_lost(lost: Mapping[str, Counted], what: str) -> Iterator[Note]:
    """What to say of rows that have no tokens to train on.

    Args:
        lost: Dataset → why → how many, and the first.
        what: They are, such as `held-out row`.
    """
    for name, found in lost.items():
        yield _lost(f"dataset '{name}': {_rows(counted_rows(found), what)}", found)


def of_tokens(parts: Sequence[Dataset]) -> Iterator[Note]:
    """What to say of rows that `tokenize` gives; `parts` are tables, such as those to train on and those held out."""
    found: dict[str, list[LeftOut]] = {}
    for part in parts:
        for name, state in (notes_of(part) or {}).items():
            found.setdefault(name, []).append(LeftOut(**state))
    for name, several in found.items():
        yield from _left_out(f"dataset '{name}'", several)


def _left_out(name: str, several: Sequence[LeftOut]) -> Iterator[Note]:
    answers = sum(left.answers for left in several)
    first = {key: row for left in reversed(several) for key, row in left.first.items()}

    def note(key: str, what: str, how: str, *, is_warning: bool = True) -> Note:
        text = f"{name}: {what} not in the tokens: the chat template {how} (the first: row {first[key]})"
        return Note(text, is_warning)

    if cut := sum(left.cut for left in several):
        yield note("cut", f"part of {cut} of {answers} answers is", "cuts it, so the model doesn't learn it")
    if trimmed := sum(left.trimmed for left in several):
        what = f"white space at the ends of {trimmed} of {answers} answers is"
        yield note("trimmed", what, "trims it", is_warning=False)
    for role in dict.fromkeys(role for left in several for role in left.messages):
        count = sum(left.messages.get(role, 0) for left in several)
        yield note(role, f"part of {count} {role} messages that are context is", "cuts it")
    if folded := sum(left.folded for left in several):
        told = f"{name}: the chat template takes no system message; that of {_rows(folded)} stands"
        yield Note(f"{told} at the start of the user's first message", True)
    if tools := sum(left.tools for left in several):
        yield note("tools", f"the tools of {_rows(tools)} are", "doesn't render them")


def _lost(which: str, found: Counted) -> Note:
    are = "is" if counted_rows(found) == 1 else "are"
    return Note(f"{which} can't be used and {are} left out: {reasons_told(found)}", True)


def _rows(count: int, what: str = "row") -> str:
    return f"{count} {what}{'s' * (count != 1)}"
