"""Where what can be made again is kept, and tables of rows that are memory-mapped from there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hbo.atomic import atomic_path, write_file
from hbo.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, Features


def cache_root() -> Path:
    """`$HBO_CACHE`, or `~/.cache/hbo`; it need not exist yet."""
    chosen = os.environ.get("HBO_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "hbo"


def stored_table(
    path: Path, features: Features, tables: Iterable[pa.Table], notes: Callable[[], Any] | None = None
) -> Dataset:
    """The memory-mapped rows of the Arrow stream file `path`, which is written from `tables` unless it exists.

    Args:
        path: The file; its stem becomes the dataset's fingerprint, so it must stand for the content.
        features: Columns.
        tables: Read only if there is no such file.
        notes: What is to be known of the rows later, asked for when all are read; `notes_of` gives it back, in this
            process or another.

    Raises:
        DataError: The file can't be written, or the one that is there is damaged; or whatever reading `tables` raises.
    """
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo
    from datasets.table import MemoryMappedTable

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
                write_file(_beside(path), json.dumps(notes()))
    try:
        table = MemoryMappedTable.from_file(str(path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: the cached rows can't be read ({error}); delete the file") from None
    return Dataset(table, info=DatasetInfo(features=features), fingerprint=path.stem)


def notes_of(data: Dataset) -> Any:
    """What was noted when the rows of `data` were stored; None if nothing was, or if they lie in no file.

    Rows chosen from a table have the notes of the table.

    Raises:
        DataError: The notes can't be read.
    """
    for file in data.cache_files:
        path = _beside(Path(file["filename"]))
        try:
            if path.exists():
                return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: can't be read ({error}); delete it and the file beside it") from None
    return None


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")
