"""What is to be said of the rows beside their number: columns that nobody reads, and what a template leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hbo.data.cache import notes_of
from hbo.data.left_out import LeftOut
from hbo.data.reader import Account
from hbo.data.unusable import Counted, shown, total
from hbo.errors import visible

if TYPE_CHECKING:
    from datasets import Dataset

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
    """One sentence.

    Attributes:
        text: It.
        is_warning: Whether a run should say it too, not only `hbo check`.
    """

    text: str
    is_warning: bool = False


def of_reading(data: Dataset) -> Iterator[Note]:
    """What to say of the rows that `read_mixture` gives: formats that are mixed, columns and keys that aren't read."""
    for account in accounts_of(data):
        yield from reading_notes(account)


def accounts_of(data: Dataset) -> list[Account]:
    """What became of the rows of each source, as `read_mixture` noted it."""
    return [Account(**state) for state in notes_of(data) or ()]


def reading_notes(account: Account) -> Iterator[Note]:
    """The same of one source."""
    name = f"dataset '{account.dataset}'"
    if len(account.formats) > 1:
        parts = (f"{count} {form} (the first: {first})" for form, (count, first) in account.formats.items())
        yield Note(f"{name}: its rows are of several formats: {', '.join(parts)}")
    plain = {_shown(column): count for column, (count, _) in account.unread.items() if column not in MEANINGS}
    if columns := [f"{column} ({_rows(count)})" for column, count in plain.items() if "[]." not in column]:
        is_chat = {"messages", "conversations"} & account.formats.keys()
        way = f"`columns: {{{'system' if is_chat else 'input'}: NAME}}` puts one before the answer, "
        use = f"{'' if 'text' in account.formats else way}`where` chooses rows by one, `group_by` splits"
        yield Note(f"{name}: columns that are not read: {', '.join(columns)}; {use}")
    if keys := [f"{key} ({_rows(count)})" for key, count in plain.items() if "[]." in key]:
        yield Note(f"{name}: keys of turns that are not read: {', '.join(keys)}; {_KEYS}")
    if account.unusable:
        yield _lost(f"{name}: of {account.path} {_rows(total(account.unusable))}", account.unusable)
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
        yield _lost(f"dataset '{name}': {_rows(total(found), what)}", found)


def _lost(which: str, found: Counted) -> Note:
    are = "is" if total(found) == 1 else "are"
    return Note(f"{which} can't be used and {are} left out: {shown(found)}", True)


def of_tokens(parts: Sequence[Dataset]) -> Iterator[Note]:
    """What to say of rows that `tokenize` gives.

    Args:
        parts: Tables, such as the rows to train on and those held out.
    """
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


def _rows(count: int, what: str = "row") -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _shown(column: str) -> str:
    return " ".join(visible(column).split())
