"""The rows of one file, lazily, each with where it stands; a file that can't be read says which line is at fault.

    .jsonl .ndjson .json    one object per line; .json may hold a list of objects instead
    .csv .tsv               a header and rows of its length; every value is a string
    .parquet                read in batches
    .arrow .feather         likewise; what `datasets` keeps, and other Arrow files

JSON and CSV may be compressed: `.jsonl.gz`, `.csv.zst`. Lines are UTF-8, blank ones are skipped.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from hbo.data import compressed, json_list
from hbo.data.columnar import Placed as Placed
from hbo.data.columnar import arrow_rows, parquet_rows
from hbo.data.turns import kind
from hbo.errors import DataError

MAX_LINE = 16 * 2**20
"""Bytes that one line or row may have; a longer one is no row but a file of another kind."""

_POINTER = b"version https://git-lfs.github.com/spec/v1"


def read_file(path: Path, ending: str | None = None) -> Iterator[Placed]:
    """The rows of `path`.

    Args:
        path: The file.
        ending: One of `SUFFIXES`, for a file whose name doesn't say what it is.

    Raises:
        DataError: The file can't be read, or some line or row of it can't.
    """
    ending = ending or _kind(path)
    if ending is None:
        raise DataError(f"{path}: {why_unknown(path)}")
    damaged = f"{path}: the compressed data is damaged or cut short"
    try:
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise DataError(f"{path}: is a pointer of Git LFS, not the data; fetch that with `git lfs pull`")
        yield from _READERS[ending](path)
    except compressed.DAMAGED as error:
        raise DataError(f"{damaged} ({error}); make the file again") from None
    except OSError as error:
        if error.errno is None and path.name.lower().endswith(compressed.ENDINGS):
            raise DataError(f"{damaged} ({error}); make the file again") from None
        raise DataError(f"{path}: can't be read ({error.strerror or error})") from None


def is_readable(path: Path) -> bool:
    """Whether the name of `path` is that of a file with rows.

    Example:
        >>> is_readable(Path("chat.jsonl.zst")), is_readable(Path("README.md"))
        (True, False)
    """
    return _kind(path) is not None


def is_columnar(path: Path, ending: str | None = None) -> bool:
    """Whether `read_file` would read columns of one type each, so that objects have the keys of all others."""
    return (ending or _kind(path)) in _BINARY


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    plain = compressed.plain_name(name)
    found = next((suffix for suffix in SUFFIXES if plain.endswith(suffix)), None)
    return None if found in _BINARY and plain != name else found


def why_unknown(path: Path) -> str:
    """Why a file of that name can't be read, and what would do."""
    if compressed.plain_name(path.name).endswith(_BINARY):
        return "Parquet and Arrow files compress their columns by themselves; unpack this one first"
    if path.suffix.lower() == ".txt":
        return f"lines of text are rows with {{path: text, data_files: {path}}}; anything else write as JSON lines"
    if path.suffix.lower() in _ARCHIVES:
        return "an archive is not read; unpack it, and give the files or the folder that was in it"
    packed = ", ".join(compressed.ENDINGS)
    return f"unknown kind of file; hbo reads {', '.join(SUFFIXES)} (JSON and CSV also packed: {packed})"


def _json(path: Path) -> Iterator[Placed]:
    with compressed.opened(path) as file:
        start = file.peek(1)[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
        if _kind(path) not in _LINES and start.startswith(b"["):
            yield from _json_list(path, file)
        else:
            yield from _json_lines(path, file)


def _json_lines(path: Path, file: io.BufferedReader) -> Iterator[Placed]:
    for line, where in _lines(path, file):
        if line.strip():
            yield _object(_parsed(line, where, "hbo reads one JSON object per line"), where), where


def _json_list(path: Path, file: io.BufferedReader) -> Iterator[Placed]:
    number = 0
    try:
        for row in json_list.items(file, MAX_LINE):
            where = f"{path}, item {number}"
            yield _object(row, where), where
            number += 1
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 after item {number}; save the file as UTF-8") from None
    except json_list.BadListError as error:
        raise DataError(f"{path}: not valid JSON, item {number} ({error}); it starts like a list of objects") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, item {number}: JSON that can't be read ({error})") from None


def _parsed(text: str, where: str, expected: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON ({error.msg}, column {error.colno}); {expected}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: JSON that can't be read ({error})") from None


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{where}: holds {kind(row)}, not a JSON object with columns")
    return row


def _csv(path: Path, delimiter: str = ",") -> Iterator[Placed]:
    # The limit is the module's, not the reader's; its default is too small for a long document.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    with compressed.opened(path) as file:
        row = _Row(path, file)
        reader = csv.reader(row, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            row.size = 0
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise DataError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None
            where = f"{path}, line {reader.line_num}"
            if cells is None:
                return
            if not cells:
                continue
            if header is None:
                header = cells
                if twice := {name for name in header if header.count(name) > 1}:
                    raise DataError(f"{where}: the header names '{min(twice)}' twice; rename one")
            elif len(cells) != len(header):
                raise DataError(
                    f"{where}: {len(cells)} cells, but the header has {len(header)}; quote text with commas"
                )
            else:
                yield dict(zip(header, cells, strict=True)), where


class _Row:
    """The lines of a CSV file; a row may have many, but all together they are bounded."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._lines = _lines(path, file)
        self.size = 0

    def __iter__(self) -> _Row:
        return self

    def __next__(self) -> str:
        line, where = next(self._lines)
        self.size += len(line)
        if self.size > MAX_LINE:
            raise DataError(
                f"{where}: the row is longer than {MAX_LINE // 2**20} MiB by now; is a quotation mark left open?"
            )
        return line


_READERS: dict[str, Callable[[Path], Iterator[Placed]]] = {
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".csv": _csv,
    ".tsv": partial(_csv, delimiter="\t"),
    ".parquet": parquet_rows,
    ".arrow": arrow_rows,
    ".feather": arrow_rows,
}
SUFFIXES = tuple(_READERS)
"""Endings of the files that hold rows; those of text may be followed by one of `compressed.ENDINGS`."""

_BINARY = (".parquet", ".arrow", ".feather")
_ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")
_LINES = (".jsonl", ".ndjson")


def _lines(path: Path, file: IO[bytes]) -> Iterator[tuple[str, str]]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        where = f"{path}, line {number}"
        if len(line) > MAX_LINE:
            raise DataError(
                f"{where}: longer than {MAX_LINE // 2**20} MiB, so this is hardly one row; write one row per line"
            )
        yield _decoded(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, where), where


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from None
