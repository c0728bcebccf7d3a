"""Where what can be made again is kept, and tables of rows that are memory-mapped from there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features
from datasets.table import MemoryMappedTable

from hbo.atomic import atomic_path, write_file
from hbo.errors import DataError


def cache_root() -> Path:
    """`$HBO_CACHE`, or `~/.cache/hbo`; it need not exist yet."""
    chosen = os.environ.get("HBO_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "hbo"


def folder_beside(data: Dataset, chosen: Path | None = None) -> Path:
    """Where what is made of `data` is kept: the chosen folder, else beside the file of `data`, else `cache_root()`."""
    return chosen or (Path(data.cache_files[0]["filename"]).parent if data.cache_files else cache_root())


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal.

    Raises:
        DataError: The file can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from None


def stored_table(
    path: Path, features: Features, tables: Iterable[pa.Table], notes: Callable[[], Any] | None = None
) -> Dataset:
    """The memory-mapped rows of the Arrow stream file `path`, which is written from `tables` unless it exists.

    Args:
        path: The file; its stem becomes the dataset's fingerprint, so it must stand for the content.
        features: Columns.
        tables: Read only if there is no such file.
        notes: What `notes_of` shall give back, asked for when all rows are read.

    Raises:
        DataError: The file can't be written, or the one that is there is damaged; or whatever reading `tables` raises.
    """
    if not path.exists():
        schema = features.arrow_schema
        with (
            atomic_path(path) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_stream(sink, schema) as writer,
        ):
            for table in tables:
                writer.write_table(table.cast(schema))
            if notes is not None:  # first, so that no table is ever without its notes
                write_file(path.with_suffix(".json"), json.dumps(notes()))
    try:
        table = MemoryMappedTable.from_file(str(path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: the cached rows can't be read ({error}); delete the file") from None
    return Dataset(table, info=DatasetInfo(features=features), fingerprint=path.stem)


def notes_of(data: Dataset) -> Any:
    """What was noted when the rows of `data`, or those that they were chosen from, were stored; None if nothing was.

    Raises:
        DataError: The notes can't be read.
    """
    for file in data.cache_files:
        path = Path(file["filename"]).with_suffix(".json")
        try:
            if path.exists():
                return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: can't be read ({error}); delete it and the file beside it") from None
    return None
