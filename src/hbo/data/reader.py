"""The rows of one source → conversations, each in the format that its own columns have; what is not read is counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from hbo.data.canonical import Conversation
from hbo.data.columns import Cells, Names, RawRow, Selector, names_in
from hbo.data.formats import FORMATS, KNOWN_FORMATS, READABLE, Format, detect, format_named, possible, renamed
from hbo.data.turns import ROLES, TurnReader
from hbo.data.unusable import MOST_REASONS, BadRowError, Counted, UnusableRowError, count_rows
from hbo.errors import ConfigError, DataError
from hbo.text import nearest

_NOT_TEXT = {"image", "images", "video", "videos", "audio", "audios"}


@dataclass
class Account:
    """What became of the rows of one source."""

    dataset: str
    """Its name in the mixture."""
    path: str
    formats: Counted = field(default_factory=dict)
    """Format → rows that were read in it."""
    unread: Counted = field(default_factory=dict)
    """Column, or key of a turn, that says something and isn't read → rows."""
    unusable: Counted = field(default_factory=dict)
    """Why rows can't be used → rows that were left out."""


class Reader:
    """Reads the rows of one source; `account` holds what it has come across.

    Args:
        dataset: Its name, for errors.
        path: Of the source, likewise.
        format: One of `FORMATS`, or another name of it; found row by row when absent.
        columns: Name that hbo reads → column of the source; or the columns to keep.
        roles: Role in the source → role.
        used: Columns that serve another purpose, such as choosing rows.
        fills_nulls: Whether the source gives each object the keys of all others, as columnar files do.

    Raises:
        ConfigError: A role is none.
        DataError: The format is unknown, or `columns` renames to what no format reads.
    """

    def __init__(
        self,
        dataset: str,
        path: str = "",
        *,
        format: str | None = None,
        columns: Mapping[str, str] | Collection[str] | None = None,
        roles: Mapping[str, str] | None = None,
        used: Collection[str] = (),
        fills_nulls: bool = False,
    ) -> None:
        self.account = Account(dataset, path)
        self._format = None if format is None else _format(dataset, format)
        self._select = Selector(dataset, columns, READABLE)
        self._turns = TurnReader(_checked(dataset, roles or {}), fills_nulls=fills_nulls)
        self._used = used
        self._last: Format | None = None
        self._names: tuple[tuple[str, ...], Names] = ((), {})
        self._possible: list[Format] = []
        self._columns: RawRow = {}

    def read(self, row: RawRow, where: str) -> Conversation:
        """The row's conversation.

        Raises:
            UnusableRowError: The row can't be used.
            DataError: `columns` names a column that no row has had so far.
        """
        self._columns = row
        cells = self._cells(self._select(row))
        format = self._format or detect(cells, self._possible) or self._last
        if format is None:
            self.check_columns()
            told = f"dataset '{self.account.dataset}': {_unknown(cells.row)} ({where})"
            raise UnusableRowError(told, "no known row format")
        self._turns.unread.clear()
        try:
            found = format.conversation(cells, self._turns)
            unread = [name for name in cells.unread() if name not in self._used]
            if format.is_chat and not _NOT_TEXT.isdisjoint(unread):
                raise BadRowError(self._not_text(cells, unread))
        except BadRowError as error:
            self.check_columns()
            told = f"{where}: {error} (dataset '{self.account.dataset}', format '{format.name}')"
            raise UnusableRowError(told, str(error)) from None
        self._last = format
        count_rows(self.account.formats, format.name, where)
        names = [self._select.renamed.get(name, name) for name in unread]
        for name in (*names, *self._select.shadowed(row), *self._turns.unread):
            if name in self.account.unread or len(self.account.unread) < MOST_REASONS:
                count_rows(self.account.unread, str(name), where)
        return found

    def check_columns(self) -> None:
        """Refuses columns of `columns:` that no row has had so far, with a DataError."""
        self._select.check(list(map(str, self._columns)))

    def _cells(self, row: RawRow) -> Cells:
        columns = tuple(row)
        if columns != self._names[0]:  # most rows have the columns of the one before
            self._names = columns, names_in(row)
            self._possible = possible(self._names[1])
        return Cells(row, self._names[1], self._select.renamed)

    def _not_text(self, cells: Cells, unread: list[str]) -> str:
        name = next(each for each in unread if each in _NOT_TEXT)
        kept = f"set `columns: [{', '.join(sorted(cells.read))}]`"
        way = "take the column out of the file" if self._select.renamed else kept
        return f"'{name}' is filled, but hbo trains on text alone; to do so without it, {way}"


def _unknown(row: RawRow) -> str:
    seen = ", ".join(map(str, row)) or "none"
    proposed = renamed(row) or {"prompt": "<column>", "completion": "<column>"}
    columns = ", ".join(f"{name}: {column}" for name, column in proposed.items())
    return (
        f"no known row format; columns seen: {seen}; formats known: {KNOWN_FORMATS}; set `format:`, or rename with "
        f"`columns: {{{columns}}}`"
    )


def _format(dataset: str, name: str) -> Format:
    if (found := format_named(name)) is not None:
        return found
    known = [other for each in FORMATS for other in (each.name, *each.aliases)]
    raise DataError(
        f"dataset '{dataset}': format '{name}' is unknown{nearest(name, known)}; formats known: {KNOWN_FORMATS}; leave "
        "`format:` out, or rename with `columns: {prompt: <column>, completion: <column>}`"
    )


def _checked(dataset: str, roles: Mapping[str, str]) -> Mapping[str, str]:
    for spelling, role in roles.items():
        if role not in ROLES:
            raise ConfigError(
                f"dataset '{dataset}': `roles` makes '{spelling}' a '{role}', an unknown role; write {{role in the "
                "file: role}, with one of system, user, assistant, tool"
            )
    return roles
