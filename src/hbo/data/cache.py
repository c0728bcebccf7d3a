"""Where files that can be made again are kept, and how they are written so that none is ever half there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features
from datasets.table import MemoryMappedTable

from hbo.errors import DataError


def cache_root() -> Path:
    """`$HBO_CACHE`, or `~/.cache/hbo`; it need not exist yet."""
    chosen = os.environ.get("HBO_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "hbo"


def folder_of(data: Dataset, chosen: Path | None = None) -> Path:
    """Where what is made of `data` is kept: the chosen folder, else beside the file of `data`, else `cache_root()`."""
    return chosen or (Path(data.cache_files[0]["filename"]).parent if data.cache_files else cache_root())


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes `path`'s name when the block ends well.

    The folder is made if need be. When the block raises, nothing is left behind and an older `path` stays as it was.

    Raises:
        DataError: The folder can't be made or written to, or its disk is full.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "scores.txt"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("0.5")
        >>> target.read_text()
        '0.5'
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    except OSError as error:
        raise DataError(
            f"{path.parent}: can't be written to ({error.strerror}); free space, or choose another folder (HBO_CACHE "
            "for the cache, --output for a run)"
        ) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes it private, which a shared cache must not be
        temporary.replace(path)
    except OSError as error:
        raise DataError(
            f"{path}: can't be written ({error.strerror or error}); free space, or choose another folder (HBO_CACHE "
            "for the cache, --output for a run)"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


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
                with atomic_path(path.with_suffix(".json")) as beside:
                    beside.write_text(json.dumps(notes()), encoding="utf-8")
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
