"""The columns of a row, under the names that formats use; what no format asked for is known afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from hbo.data.json_text import listed
from hbo.data.turns import BadRowError, is_filled, text_of
from hbo.errors import DataError, nearest

Row = Mapping[str, Any]

SPELLINGS: dict[str, tuple[str, ...]] = {
    "messages": (),
    "conversations": (),
    "prompt": (),
    "completion": (),
    "instruction": (),
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
"""Every column that a format reads → the other names that it goes by."""


class Cells:
    """One row.

    Attributes:
        read: The columns that were asked for and found.
    """

    def __init__(self, row: Row, renamed: Collection[str] = ()) -> None:
        """
        Args:
            row: Its columns, renamed.
            renamed: Those to which the user gave their names.
        """
        self.row, self.renamed = row, renamed
        self.read = set[str]()

    def get(self, column: str) -> Any:
        """What stands in a column that the row must have.

        Raises:
            BadRowError: It hasn't.
        """
        if column not in self.row:
            raise BadRowError(f"the column '{column}' is missing (columns: {', '.join(map(str, self.row)) or 'none'})")
        self.read.add(column)
        return self.row[column]

    def required(self, column: str) -> tuple[str, Any]:
        """The first spelling of this column that isn't null, and what stands there.

        Raises:
            BadRowError: The row has none of them.
        """
        names = (column, *SPELLINGS[column])
        present = [name for name in names if name in self.row]
        name = next((name for name in present if self.row[name] is not None), present[0] if present else column)
        return name, self.get(name)

    def text(self, column: str) -> str:
        """The text of a column that may be absent, or of the first other spelling of it that holds text; else "".

        Raises:
            BadRowError: The column of that very name holds something else.
        """
        value = self.row.get(column)
        if value is not None:
            self.read.add(column)
            if text := text_of(value, column):
                return text
        return next(self._texts(SPELLINGS[column]), "")

    def contexts(self) -> list[str]:
        """The texts that belong to an instruction, however their columns are called.

        Raises:
            BadRowError: `input` is no text.
        """
        own = self.row.get("input")
        found = [] if own is None else [text_of(self.get("input"), "input")]
        return [text for text in (*found, *self._texts(SPELLINGS["input"])) if is_filled(text)]

    def value(self, column: str, read: Callable[[Any], Any]) -> Any:
        """What `read` makes of the first spelling of a column, which may be JSON text; None where it makes nothing."""
        for name in (column, *SPELLINGS[column]):
            if is_filled(value := self.row.get(name)) and (found := read(listed(value))) is not None:
                self.read.add(name)
                return found
        return None

    def note_said(self, columns: Iterable[str], said: Collection[Any]) -> None:
        """Counts those of the columns as read that say what the row says anyway."""
        self.read.update(name for name in columns if name in self.row and self.row[name] in said)

    def unread(self) -> list[str]:
        """The columns that say something and that nothing asked for."""
        return [name for name, value in self.row.items() if name not in self.read and is_filled(value)]

    def _texts(self, names: tuple[str, ...]) -> Iterator[str]:
        for name in names:
            value = self.row.get(name)
            if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
                value = "\n\n".join(value)
            if isinstance(value, str) and is_filled(value):
                self.read.add(name)
                yield text_of(value, name)


class Selector:
    """`columns:` of one source: renames columns, or keeps some, and knows which of them no row has had so far."""

    def __init__(self, dataset: str, columns: Mapping[str, str] | Collection[str] | None) -> None:
        """
        Args:
            dataset: Name, for errors.
            columns: Name that hbo reads → column of the source; or the columns to keep.

        Raises:
            DataError: It renames to what no format reads.
        """
        self.dataset = dataset
        self.renamed = dict(columns) if isinstance(columns, Mapping) else {}
        self.kept = None if columns is None or isinstance(columns, Mapping) else set(columns)
        self.missing = set(self.renamed.values()) if self.kept is None else set(self.kept)
        known = [*SPELLINGS, *(other for others in SPELLINGS.values() for other in others)]
        for name in self.renamed:
            if name not in known:
                raise DataError(
                    f"dataset '{dataset}': `columns` renames to '{name}', which no format reads"
                    f"{nearest(name, known)}; write {{name that hbo reads: name in the file}}, "
                    f"with one of {', '.join(SPELLINGS)}"
                )

    def __call__(self, row: Row) -> Row:
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

    def check(self, seen: Collection[str]) -> None:
        """Refuses columns that no row has had.

        Args:
            seen: Columns of a row, for the error.

        Raises:
            DataError: There is such a column.
        """
        for column in [*self.renamed.values(), *sorted(self.kept or ())]:
            if column in self.missing:
                raise DataError(
                    f"dataset '{self.dataset}': `columns` names '{column}', which no row has"
                    f"{nearest(column, seen)}; columns seen: {', '.join(map(str, seen)) or 'none'}"
                )
