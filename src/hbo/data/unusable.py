"""Rows that can't be used: the errors that say so, how they are counted by reason, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hbo.errors import DataError
from hbo.text import visible

Counted = dict[str, tuple[int, str]]
"""Name or reason → how many rows, and where the first of them stands."""

MOST_REASONS = 50
"""Names or reasons that are told apart; rows may have any."""

_OTHER = "another reason"
_NUMBERED = re.compile(r"(?<=\[)\d+(?=\])|(?<=answer )\d+|(?<=character )\d+")
_NAMED = 4  # reasons that a sentence names


class BadRowError(Exception):
    """A row that can't be used; says why, and the caller knows where."""


class UnusableRowError(DataError):
    """A row that can't be used, and where it stands.

    Attributes:
        reason: Why, in words that are the same for all rows of which it is so.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = _NUMBERED.sub("…", reason)


def reason_of(error: DataError) -> str:
    """Why a row can't be used, as rows are counted by it."""
    return error.reason if isinstance(error, UnusableRowError) else str(error)


def count_rows(found: Counted, reason: str, where: str, rows: int = 1) -> None:
    """Counts rows under their reason; when there are `MOST_REASONS`, under one name for all others."""
    reason = reason if reason in found or len(found) < MOST_REASONS else _OTHER
    before, first = found.get(reason, (0, where))
    found[reason] = before + rows, first


def counted_rows(found: Mapping[str, tuple[int, str]]) -> int:
    """How many rows that are."""
    return sum(rows for rows, _ in found.values())


def reasons_told(found: Mapping[str, tuple[int, str]]) -> str:
    """The reasons with their rows, the most frequent first.

    Example:
        >>> reasons_told({"completion is null, not a string": (2, "a.jsonl, line 3")})
        '2 as completion is null, not a string (the first: a.jsonl, line 3)'
    """
    ordered = sorted(found.items(), key=lambda item: -item[1][0])
    told = [f"{rows} as {' '.join(visible(reason).split())} (the first: {first})" for reason, (rows, first) in ordered]
    rest = sum(rows for _, (rows, _) in ordered[_NAMED:])
    return "; ".join([*told[:_NAMED], *([f"{rest} for other reasons"] if rest else [])])
