"""The objects of one long JSON list, one after another, so that a file of any length needs the memory of one row."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

_BLOCK = 2**16
_NO_SPACE = re.compile(r"[^ \t\r\n]")


class BadListError(ValueError):
    """What is read is no list of JSON values."""


def items(file: IO[bytes], longest: int) -> Iterator[Any]:
    """The items of the list that `file` holds; at an item that is no object, only its beginning may have been read.

    Args:
        file: UTF-8, with or without a byte order mark.
        longest: Characters that one item may have.

    Raises:
        BadListError: The text is no list, is cut short, has an item too long, or goes on after the list.
        UnicodeDecodeError: It is not UTF-8.
        RecursionError, ValueError: An item is nested too deeply, or holds a number too long.

    Example:
        >>> import io
        >>> list(items(io.BytesIO(b'[{"a": 1}, {"a": 2}]'), 100))
        [{'a': 1}, {'a': 2}]
    """
    text = _Text(file)
    text.take("[", "it has no opening bracket")
    if text.next() == "]":
        text.take("]", "")
    else:
        while True:
            yield text.item(longest)
            if text.next() != ",":
                break
            text.take(",", "")
        text.take("]", "a comma or the closing bracket is missing")
    if text.next():
        raise BadListError("there is text after the list")


class _Text:
    """What is read of the file, and how much of it is taken."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._scan = json.JSONDecoder().raw_decode
        self._read_so_far = ""
        self._taken = 0
        self._ended = False

    def next(self) -> str:
        """The next character that is no space, left where it is; empty at the end."""
        while True:
            found = _NO_SPACE.search(self._read_so_far, self._taken)
            if found or self._ended:
                self._taken = found.start() if found else len(self._read_so_far)
                return found[0] if found else ""
            self._taken = len(self._read_so_far)
            self._read(_BLOCK)

    def take(self, character: str, complaint: str) -> None:
        if (found := self.next()) != character:
            raise BadListError(complaint if found else "it is cut short")
        self._taken += 1

    def item(self, longest: int) -> Any:
        self.next()
        while True:
            length = len(self._read_so_far)
            try:
                value, self._taken = self._scan(self._read_so_far, self._taken)
            except json.JSONDecodeError as error:
                # At the very end, or in a string without one, more text may be the remedy.
                is_open = error.msg.startswith("Unterminated") or error.pos > length - 16
                if self._ended or not is_open:
                    raise BadListError(error.msg) from None
                if length - self._taken > longest:
                    raise BadListError(f"longer than {longest} characters, so this is hardly one row") from None
                self._read(max(_BLOCK, length - self._taken))  # twice as much each time: linear in all
            else:
                return value

    def _read(self, count: int) -> None:
        block = self._file.read(count)
        self._ended = not block
        self._read_so_far = self._read_so_far[self._taken :] + self._decode(block, final=not block)
        self._taken = 0
