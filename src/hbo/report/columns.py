"""A table for a terminal of any width, or for none: no number is ever cut, and no word is broken.

Where a line is too narrow, first the headings take several lines, then names are cut, then every row becomes a list.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.text import Text

_GAP = "  "
_LONGEST, _SHORTEST = 40, 8  # cells of a name
_HEIGHTS = 1, 2, 3, 99  # lines of the headings
Cell = str | Text


class Columns:
    """A table of names and numbers; the first column is the names'.

    Args:
        head: What stands above each column.
        title: What stands above the table.
        left: Columns that hold words, which stand at the left.
    """

    def __init__(self, head: Sequence[str], title: str | None = None, left: Sequence[str] = ()) -> None:
        self.head, self.title, self.left = [*head], title, {head[0], *left}
        self.rows: list[list[Text] | None] = []
        """None is a line between two parts."""

    def add(self, *cells: Cell) -> None:
        """Appends a row."""
        self.rows.append([cell if isinstance(cell, Text) else Text(cell) for cell in cells])

    def end_part(self) -> None:
        """Draws a line below what was added so far."""
        self.rows.append(None)

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return sum(row is not None for row in self.rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        if self.title:
            yield Text(self.title, style="bold")
        drawn = self._drawn(options.max_width)
        yield from self._listed() if drawn is None else drawn

    def _drawn(self, room: int) -> list[Text] | None:
        """The lines of the table in so many cells, or None where it can't be drawn in them."""
        rows = [row for row in self.rows if row is not None]
        widest = [max((row[i].cell_len for row in rows), default=0) for i in range(len(self.head))]
        widest[0] = min(widest[0], _LONGEST)
        for lines in _HEIGHTS:
            heads = [_width(head, lines) for head in self.head]
            widths = [max(pair) for pair in zip(widest, heads, strict=True)]
            over = sum(widths) + len(_GAP) * (len(widths) - 1) - room
            if over <= 0:
                return self._lines(widths)
        widths[0] = max(widths[0] - over, _SHORTEST, heads[0])
        return self._lines(widths) if sum(widths) + len(_GAP) * (len(widths) - 1) <= room else None

    def _lines(self, widths: list[int]) -> list[Text]:
        heads = [textwrap.wrap(head, max(width, 1)) for head, width in zip(self.head, widths, strict=True)]
        height = max(map(len, heads))
        lines = [self._line([Text(part) for part in parts], widths) for parts in self._stacked(heads, height)]
        for line in lines:
            line.stylize("bold")
        rule = Text("─" * (sum(widths) + len(_GAP) * (len(widths) - 1)), style="dim")
        return [*lines, rule, *(rule if row is None else self._line(row, widths) for row in self.rows)]

    @staticmethod
    def _stacked(heads: list[list[str]], height: int) -> Iterator[list[str]]:
        for line in range(height):
            yield [(parts[line - height + len(parts)] if line >= height - len(parts) else "") for parts in heads]

    def _line(self, cells: Sequence[Text], widths: Sequence[int]) -> Text:
        line = Text(no_wrap=True, overflow="ignore")
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            shown = _cut(cell, width) if not i else cell
            blank = " " * (width - shown.cell_len)
            stands_left = self.head[i] in self.left
            line.append(_GAP if i else "").append_text(shown if stands_left else Text(blank) + shown)
            line.append(blank if stands_left else "")
        line.rstrip()
        return line

    def _listed(self) -> Iterator[Text]:
        for row in self.rows:
            if row is not None:
                name, *cells = row
                yield name
                told = [Text.assemble(head, " ", cell) for head, cell in zip(self.head[1:], cells, strict=True) if cell]
                yield Text("  ") + Text(", ").join(told)


def _width(head: str, lines: int) -> int:
    """The cells in which a heading takes no more than so many lines, or those of its longest word."""
    least = max(map(cell_len, head.split()), default=0)
    return next((n for n in range(least, cell_len(head)) if len(textwrap.wrap(head, n)) <= lines), cell_len(head))


def _cut(name: Text, width: int) -> Text:
    if name.cell_len <= width:
        return name
    return Text(set_cell_size(name.plain, width - 1).rstrip() + "…", style=name.style)
