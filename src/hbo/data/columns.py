"""The columns of a row, under the names that formats use; what no format asked for is known afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hbo.data.json_text import listed
from hbo.data.turns import is_filled, text_of
from hbo.data.unusable import BadRowError
from hbo.errors import DataError
from hbo.text import nearest

RawRow = Mapping[str, Any]

SPELLINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("messages", "conversations", "prompt", "completion", "instruction"), ()),
    "input": ("context", "contexts", "passage", "paragraph", "document", "article", "background", "knowledge"),
    "output": ("response",),
    "chosen": (),
    "history": (),
    "system": ("system_prompt", "system_message", "system_instruction", "sys_prompt", "systemPrompt"),
    "tools": ("functions",),
    "reasoning_content": ("thinking",),
    "chat_template_kwargs": (),
    "text": (),
}
"""Columns that formats read → the other names that they go by."""

Names = Mapping[str, tuple[str, ...]]
"""Column that a format may read → those of its names that a row has, its own first."""


def names_in(columns: Collection[str]) -> Names:
    """The columns that formats may read, by the names that they have among these.

    Example:
        >>> names_in(["instruction", "context"])
        {'instruction': ('instruction',), 'context': ('context',), 'input': ('context',)}
    """
    found = ((name, tuple(each for each in (name, *others) if each in columns)) for name, others in SPELLINGS.items())
    return {name: (name,) for name in columns} | {name: present for name, present in found if present}


class Cells:
    """One row.

    Args:
        row: Its columns, renamed.
        names: `names_in` of them, where that is known.
        renamed: Those to which the user gave their names.
    """

    read: set[str]
    """The columns that were asked for and found."""

    def __init__(self, row: RawRow, names: Names | None = None, renamed: Collection[str] = ()) -> None:
        self.row, self.renamed = row, renamed
        self.names = names_in(row) if names is None else names
        self.read = set()

    def first(self, column: str) -> Any:
        """What stands under the name of a column that `named` chooses; None if it has none."""
        return self.row[self.named(column)] if column in self.names else None

    def named(self, column: str) -> str:
        """The first name of a column that is filled in this row, else the first that isn't null, else the first."""
        names = self.names.get(column, (column,))
        if len(names) == 1:
            return names[0]
        filled = (name for name in names if is_filled(self.row[name]))
        return next(filled, None) or next((name for name in names if self.row[name] is not None), names[0])

    def get(self, column: str) -> Any:
        """What stands in a column that the row must have; BadRowError if it hasn't."""
        if column not in self.row:
            raise BadRowError(f"the column '{column}' is missing (columns: {', '.join(map(str, self.row)) or 'none'})")
        self.read.add(column)
        return self.row[column]

    def text(self, column: str) -> str:
        """The text of a column that may be absent, or of the first other spelling of it that holds text; else ""."""
        if column not in self.names:
            return ""
        if self.row.get(column) is not None and (text := text_of(self.get(column), column)):
            return text
        return next(self._texts(column), "")

    def contexts(self) -> list[str]:
        """The texts that belong to an instruction, however their columns are called."""
        if "input" not in self.names:
            return []
        found = [] if self.row.get("input") is None else [text_of(self.get("input"), "input")]
        return [text for text in (*found, *self._texts("input")) if is_filled(text)]

    def value(self, column: str, read: Callable[[Any], Any]) -> Any:
        """What `read` makes of the first spelling of a column, which may be JSON text; None where it makes nothing."""
        for name in self.names.get(column, ()):
            if is_filled(value := self.row[name]) and (found := read(listed(value))) is not None:
                self.read.add(name)
                return found
        return None

    def note_said(self, columns: Iterable[str], said: Sequence[Any]) -> None:
        """Counts those of the columns as read that say what the row says anyway."""
        for name in columns:
            if self.row.get(name) is not None and self.row[name] in said:
                self.read.add(name)

    def unread(self) -> list[str]:
        """The columns that say something and that nothing asked for."""
        return [name for name, value in self.row.items() if name not in self.read and is_filled(value)]

    def _texts(self, column: str) -> Iterator[str]:
        """What stands under the other names of a column, where that is text."""
        for name in self.names[column]:
            if name == column:
                continue
            value = self.row[name]
            if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
                value = "\n\n".join(value)
            if isinstance(value, str) and is_filled(value):
                self.read.add(name)
                yield text_of(value, name)


class Selector:
    """`columns:` of one source: renames columns, or keeps some, and knows which of them no row has had so far.

    Args:
        dataset: Name, for errors.
        columns: Name that hbo reads → column of the source; or the columns to keep.
        readable: Columns that formats read.

    Raises:
        DataError: It renames to what no format reads.
    """

    def __init__(
        self,
        dataset: str,
        columns: Mapping[str, str] | Collection[str] | None,
        readable: Collection[str] = tuple(SPELLINGS),
    ) -> None:
        self.dataset = dataset
        self.renamed = dict(columns) if isinstance(columns, Mapping) else {}
        self.kept = None if columns is None or isinstance(columns, Mapping) else set(columns)
        self.missing = set(self.renamed.values()) if self.kept is None else set(self.kept)
        known = [*readable, *(other for others in SPELLINGS.values() for other in others)]
        for name in self.renamed:
            if name not in known:
                raise DataError(
                    f"dataset '{dataset}': `columns` renames to '{name}', which no format reads"
                    f"{nearest(name, known)}; write {{name that hbo reads: name in the file}}, "
                    f"with one of {', '.join(readable)}"
                )

    def __call__(self, row: RawRow) -> RawRow:
        """The row's columns, renamed."""
        if self.missing:
            self.missing -= row.keys()
        if self.kept is not None:
            return {key: value for key, value in row.items() if key in self.kept}
        if not self.renamed:
            return row
        sources = set(self.renamed.values())
        rest = {key: value for key, value in row.items() if key not in sources and key not in self.renamed}
        return rest | {name: row[source] for name, source in self.renamed.items() if source in row}

    def shadowed(self, row: RawRow) -> list[str]:
        """The columns that another one takes the name of."""
        sources = self.renamed.values()
        return [name for name in self.renamed if name not in sources and is_filled(row.get(name))]

    def check(self, seen: Collection[str]) -> None:
        """Refuses columns that no row has had, with a DataError that names those `seen` in a row."""
        for column in [*self.renamed.values(), *sorted(self.kept or ())]:
            if column in self.missing:
                raise DataError(
                    f"dataset '{self.dataset}': `columns` names '{column}', which no row has"
                    f"{nearest(column, seen)}; columns seen: {', '.join(map(str, seen)) or 'none'}"
                )
