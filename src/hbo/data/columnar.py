"""The rows of Parquet and Arrow files, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hbo.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Placed = tuple[dict[str, Any], str]
"""A row and where it stands, such as `data/chat.jsonl, line 3`."""

_BATCH = 1000
_FILE_MAGIC = b"ARROW1"


def parquet_rows(path: Path) -> Iterator[Placed]:
    """The rows of a Parquet file.

    Raises:
        DataError: It can't be read.
    """
    import pyarrow.parquet as pq

    def batches() -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=_BATCH)

    return _rows(path, "a Parquet file", batches)


def arrow_rows(path: Path) -> Iterator[Placed]:
    """The rows of an Arrow file: a stream, as `datasets` writes it, or a file with a footer (Feather).

    Raises:
        DataError: It can't be read.
    """
    import pyarrow as pa

    def batches() -> Iterator[pa.RecordBatch]:
        with pa.OSFile(str(path)) as source:
            is_file = source.read(len(_FILE_MAGIC)) == _FILE_MAGIC
            source.seek(0)
            opened = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
            for batch in map(opened.get_batch, range(opened.num_record_batches)) if is_file else opened:
                batch.validate(full=True)  # of damaged data it would read what isn't there
                yield batch

    return _rows(path, "an Arrow file", batches)


def _rows(path: Path, what: str, batches: Callable[[], Iterator[pa.RecordBatch]]) -> Iterator[Placed]:
    count = 0
    with _in_words(path, what, lambda: count):
        for batch in batches():
            for first in range(0, len(batch), _BATCH):
                for row in batch.slice(first, _BATCH).to_pylist():
                    yield row, f"{path}, row {count}"
                    count += 1


@contextmanager
def _in_words(path: Path, what: str, count: Callable[[], int]) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except UnicodeDecodeError:
        raise DataError(f"{path}: a string after row {count()} is not UTF-8") from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: not {what} that can be read ({reason}); make the file again") from None
