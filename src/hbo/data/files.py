"""The rows of one file, lazily, each with where it stands; a file that can't be read says which line is at fault.

    .jsonl .json    one object per line; .json may hold a list of objects instead
    .parquet        read in batches
    .csv            a header and rows of its length; every value is a string

JSON and CSV may be compressed: `.jsonl.gz`, `.csv.zst`. Lines are UTF-8, blank ones are skipped.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from hbo.data import json_list
from hbo.data.turns import kind
from hbo.data.zstd import ZstdError, open_zstd
from hbo.errors import DataError

Placed = tuple[dict[str, Any], str]
"""A row and where it stands, such as `data/chat.jsonl, line 3`."""

MAX_LINE = 16 * 2**20
"""Bytes that one line or row may have; a longer one is no row but a file of another kind."""

_BATCH = 1000


def read_file(path: Path) -> Iterator[Placed]:
    """The rows of `path`.

    Raises:
        DataError: The file can't be read, or some line or row of it can't.
    """
    kind_of_file = _kind(path)
    if kind_of_file is None:
        raise DataError(f"{path}: unknown kind of file; hbo reads {', '.join(SUFFIXES)} (JSON and CSV also .gz, .zst)")
    try:
        yield from _READERS[kind_of_file](path)
    except (gzip.BadGzipFile, zlib.error, ZstdError, EOFError) as error:
        raise DataError(f"{path}: the compressed data is damaged or cut short ({error}); make the file again") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error})") from None


def is_readable(path: Path) -> bool:
    """Whether the name of `path` is that of a file with rows.

    Example:
        >>> is_readable(Path("chat.jsonl.zst")), is_readable(Path("README.md"))
        (True, False)
    """
    return _kind(path) is not None


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    plain = name.removesuffix(".gz").removesuffix(".zst")
    found = next((suffix for suffix in SUFFIXES if plain.endswith(suffix)), None)
    return None if found == ".parquet" and plain != name else found


def _json(path: Path) -> Iterator[Placed]:
    with _opened(path) as file:
        start = file.peek(1)[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
        if _kind(path) == ".json" and start.startswith(b"["):
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


def _csv(path: Path) -> Iterator[Placed]:
    # The limit is the module's, not the reader's; its default is too small for a long document.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    with _opened(path) as file:
        row = _Row(path, file)
        reader = csv.reader(row, strict=True)
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


def _parquet(path: Path) -> Iterator[Placed]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    yield row, f"{path}, row {count}"
                    count += 1
    except UnicodeDecodeError:
        raise DataError(f"{path}: a string after row {count} is not UTF-8") from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: not a Parquet file that can be read ({reason}); make the file again") from None


_READERS: dict[str, Callable[[Path], Iterator[Placed]]] = {
    ".jsonl": _json,
    ".json": _json,
    ".parquet": _parquet,
    ".csv": _csv,
}
SUFFIXES = tuple(_READERS)
"""Endings of the files that hold rows; those of text may be followed by .gz or .zst."""


def _opened(path: Path) -> io.BufferedReader:
    if path.name.lower().endswith(".gz"):
        return io.BufferedReader(gzip.open(path, "rb"))  # type: ignore[arg-type]
    if path.name.lower().endswith(".zst"):
        return open_zstd(path)
    return path.open("rb")


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
