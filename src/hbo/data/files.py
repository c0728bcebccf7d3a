"""The rows of one file, lazily, each with where it stands; a file that can't be read says which line is at fault.

    .jsonl .ndjson .json    one object per line; .json may hold a list of objects instead
    .csv .tsv               a header and rows of its length; every value is a string
    .parquet                read in batches
    .arrow .feather         likewise; what `datasets` keeps, and other Arrow files

JSON and CSV may be compressed: `.jsonl.gz`, `.csv.zst`. Lines are UTF-8, blank ones are skipped. No file of whatever
content needs more memory than one row of `MAX_LINE`, and a damaged or cut-off one never passes for a shorter one.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from hbo.data.turns import kind
from hbo.errors import DataError

Placed = tuple[dict[str, Any], str]
"""A row and where it stands, such as `data/chat.jsonl, line 3`."""

MAX_LINE = 16 * 2**20
"""Bytes that one line or row may have; a longer one is no row but a file of another kind."""

_POINTER = b"version https://git-lfs.github.com/spec/v1"
_ARROW_FILE = b"ARROW1"
_BOM = b"\xef\xbb\xbf"
_BATCH = 1000
_BLOCK = 2**16
_NO_SPACE = re.compile(r"[^ \t\r\n]")


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
    try:
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise DataError(f"{path}: is a pointer of Git LFS, not the data; fetch that with `git lfs pull`")
        yield from _READERS[ending](path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        # Unpackers say in an OSError of their own, without a number, that the data is damaged.
        if isinstance(error, OSError) and (error.errno or not path.name.lower().endswith(COMPRESSED)):
            raise DataError(f"{path}: can't be read ({error.strerror or error})") from None
        raise DataError(f"{path}: the compressed data is damaged or cut short ({error}); make the file again") from None


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


def why_unknown(path: Path) -> str:
    """Why a file of that name can't be read, and what would do."""
    if _plain_name(path).endswith(_BINARY):
        return "Parquet and Arrow files compress their columns by themselves; unpack this one first"
    if path.suffix.lower() == ".txt":
        return f"lines of text are rows with {{path: text, data_files: {path}}}; anything else write as JSON lines"
    if path.suffix.lower() in _ARCHIVES:
        return "an archive is not read; unpack it, and give the files or the folder that was in it"
    packed = ", ".join(COMPRESSED)
    return f"unknown kind of file; hbo reads {', '.join(SUFFIXES)} (JSON and CSV also packed: {packed})"


def _kind(path: Path) -> str | None:
    plain = _plain_name(path)
    found = next((suffix for suffix in SUFFIXES if plain.endswith(suffix)), None)
    return None if found in _BINARY and plain != path.name.lower() else found


def _plain_name(path: Path) -> str:
    """The name in small letters, without the ending of a compressed file."""
    name = path.name.lower()
    return next((name.removesuffix(ending) for ending in COMPRESSED if name.endswith(ending)), name)


def _unpacked(path: Path) -> io.BufferedReader:
    name = path.name.lower()
    unpacker = next((each for ending, each in _UNPACKERS.items() if name.endswith(ending)), None)
    return io.BufferedReader(unpacker(path)) if unpacker else path.open("rb")


def _json(path: Path) -> Iterator[Placed]:
    with _unpacked(path) as file:
        start = file.peek(1)[:1024].removeprefix(_BOM).lstrip()
        is_list = _kind(path) not in _LINES and start.startswith(b"[")
        for row, where in _json_list(path, file) if is_list else _json_lines(path, file):
            if not isinstance(row, dict):
                raise DataError(f"{where}: holds {kind(row)}, not a JSON object with columns")
            yield row, where


def _json_lines(path: Path, file: IO[bytes]) -> Iterator[tuple[Any, str]]:
    for line, where in _lines(path, file):
        if not line.strip():
            continue
        try:
            yield json.loads(line), where
        except json.JSONDecodeError as error:
            raise DataError(
                f"{where}: not valid JSON ({error.msg}, column {error.colno}); hbo reads one JSON object per line"
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: JSON that can't be read ({error})") from None


def _json_list(path: Path, file: IO[bytes]) -> Iterator[tuple[Any, str]]:
    number = 0
    try:
        for item in _ListText(file).items():
            yield item, f"{path}, item {number}"
            number += 1
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 after item {number}; save the file as UTF-8") from None
    except _BadListError as error:
        raise DataError(f"{path}: not valid JSON, item {number} ({error}); it starts like a list of objects") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, item {number}: JSON that can't be read ({error})") from None


class _BadListError(ValueError):
    """What is read is no list of JSON values."""


class _ListText:
    """The text of one long JSON list, of which little more than an item is in memory.

    Not by ijson, whose quick parser makes `?` of half a surrogate pair, takes no number beyond 64 bits, and needs a
    gigabyte for 20,000 opening brackets.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._decode = file, codecs.getincrementaldecoder("utf-8-sig")().decode
        self._scan = json.JSONDecoder().raw_decode
        self._text, self._at, self._is_ended = "", 0, False

    def items(self) -> Iterator[Any]:
        """The items; at one that is no object, only its beginning may have been read."""
        self._take("[", "it has no opening bracket")
        if self._next() != "]":
            yield self._item()
            while self._next() == ",":
                self._take(",", "")
                yield self._item()
        self._take("]", "a comma or the closing bracket is missing")
        if self._next():
            raise _BadListError("there is text after the list")

    def _next(self) -> str:
        """The next character that is no space, left where it is; empty at the end."""
        while not (found := _NO_SPACE.search(self._text, self._at)) and not self._is_ended:
            self._at = len(self._text)
            self._read(_BLOCK)
        self._at = found.start() if found else len(self._text)
        return found[0] if found else ""

    def _take(self, character: str, complaint: str) -> None:
        if (found := self._next()) != character:
            raise _BadListError(complaint if found else "it is cut short")
        self._at += 1

    def _item(self) -> Any:
        self._next()
        while True:
            length = len(self._text)
            try:
                value, self._at = self._scan(self._text, self._at)
            except json.JSONDecodeError as error:
                # At the very end, or in a string without one, more text may be the remedy.
                is_open = error.msg.startswith("Unterminated") or error.pos > length - 16
                if self._is_ended or not is_open:
                    raise _BadListError(error.msg) from None
                if length - self._at > MAX_LINE:
                    raise _BadListError(f"longer than {MAX_LINE} characters, so this is hardly one row") from None
                self._read(max(_BLOCK, length - self._at))  # twice as much each time: linear in all
            else:
                return value

    def _read(self, count: int) -> None:
        block = self._file.read(count)
        self._text, self._at = self._text[self._at :] + self._decode(block, final=not block), 0
        self._is_ended = not block


def _csv(path: Path, delimiter: str = ",") -> Iterator[Placed]:
    # The limit is the module's, not the reader's; its default is too small for a long document.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    with _unpacked(path) as file:
        lines = _CsvLines(path, file)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            lines.size = 0
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


class _CsvLines:
    """The lines of a CSV file; a row may have many, but all together they are bounded."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._lines = _lines(path, file)
        self.size = 0

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        line, where = next(self._lines)
        self.size += len(line)
        if self.size > MAX_LINE:
            raise DataError(
                f"{where}: the row is longer than {MAX_LINE // 2**20} MiB by now; is a quotation mark left open?"
            )
        return line


def _lines(path: Path, file: IO[bytes]) -> Iterator[tuple[str, str]]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        where = f"{path}, line {number}"
        if len(line) > MAX_LINE:
            raise DataError(
                f"{where}: longer than {MAX_LINE // 2**20} MiB, so this is hardly one row; write one row per line"
            )
        try:
            text = (line.removeprefix(_BOM) if number == 1 else line).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from None
        yield text, where


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=_BATCH)


def _arrow(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of a stream, as `datasets` writes it, or of a file with a footer (Feather)."""
    with pa.OSFile(str(path)) as source:
        is_file = source.read(len(_ARROW_FILE)) == _ARROW_FILE
        source.seek(0)
        opened = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        for batch in map(opened.get_batch, range(opened.num_record_batches)) if is_file else opened:
            batch.validate(full=True)  # of damaged data it would read what isn't there
            yield batch


def _columnar(path: Path, what: str, batches: Callable[[Path], Iterator[pa.RecordBatch]]) -> Iterator[Placed]:
    number = 0
    try:
        for batch in batches(path):
            for first in range(0, len(batch), _BATCH):
                for row in batch.slice(first, _BATCH).to_pylist():
                    yield row, f"{path}, row {number}"
                    number += 1
    except UnicodeDecodeError:
        raise DataError(f"{path}: a string after row {number} is not UTF-8") from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: not {what} that can be read ({reason}); make the file again") from None


_UNPACKERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.GzipFile,
    ".zst": partial(pa.input_stream, compression="zstd"),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
COMPRESSED = tuple(_UNPACKERS)
"""Endings of the names of compressed files."""

_READERS: dict[str, Callable[[Path], Iterator[Placed]]] = {
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".csv": _csv,
    ".tsv": partial(_csv, delimiter="\t"),
    ".parquet": partial(_columnar, what="a Parquet file", batches=_parquet),
    ".arrow": partial(_columnar, what="an Arrow file", batches=_arrow),
    ".feather": partial(_columnar, what="an Arrow file", batches=_arrow),
}
SUFFIXES = tuple(_READERS)
"""Endings of the files that hold rows; those of text may be followed by one of `COMPRESSED`."""

_BINARY = (".parquet", ".arrow", ".feather")
_ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")
_LINES = (".jsonl", ".ndjson")
