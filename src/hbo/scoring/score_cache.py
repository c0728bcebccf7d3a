"""Losses that stay measured: row by row while scoring runs, as one Parquet file once it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hbo.atomic import atomic_path
from hbo.errors import DataError
from hbo.scoring.processes import Processes

_RECORD = np.dtype([("row", "<i8"), ("loss", "<f8")])


class Journal:
    """An append-only file of (row, loss), so that an interrupted run loses one batch and no more.

    Each method raises a DataError when the file can't be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, loss_N: np.ndarray) -> np.ndarray:
        """Fills in what an earlier run has measured, and tells which rows (N,) these are."""
        is_done = np.zeros(len(loss_N), dtype=bool)
        if self.path.exists():
            with _told(self.path):
                whole = self.path.stat().st_size // _RECORD.itemsize
                records = np.fromfile(self.path, _RECORD, count=whole)
            records = records[(records["row"] >= 0) & (records["row"] < len(loss_N))]
            loss_N[records["row"]] = records["loss"]
            is_done[records["row"]] = True
        return is_done

    @contextmanager
    def appending(self) -> Iterator[BinaryIO]:
        """The file, open for `write`; a record that was cut short by a crash is removed."""
        with _told(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("ab", buffering=0)
            file.truncate(file.tell() // _RECORD.itemsize * _RECORD.itemsize)
        with file:
            yield file

    def write(self, file: BinaryIO, rows_B: np.ndarray, loss_B: np.ndarray) -> None:
        """Appends a batch at once."""
        records = np.empty(len(rows_B), _RECORD)
        records["row"], records["loss"] = rows_B, loss_B
        with _told(self.path):
            file.write(records.tobytes())

    def remove(self) -> None:
        """Deletes the file, if it is there."""
        self.path.unlink(missing_ok=True)


def journals(path: Path, processes: Processes) -> list[Journal]:
    """The journals that this process answers for: its own, which comes first and may not be there yet, and leftovers.

    Leftovers are those of an interrupted run by more processes; each is read by exactly one process. `path` is the
    journal of the first process; those of the others have their number added.
    """
    own = processes.rank
    found = {0: path, own: path.with_name(f"{path.name}{own or ''}")}
    for other in path.parent.glob(f"{path.name}*"):
        number = other.name.removeprefix(path.name)
        if number.isdecimal():
            found[int(number)] = other
    mine = sorted((number for number in found if number % processes.count == own), key=lambda number: number != own)
    return [Journal(found[number]) for number in mine]


def kept_losses(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """The losses (N,) given the instruction and alone that `keep_losses` wrote there, or None.

    Raises:
        DataError: The file is damaged.
    """
    if not path.exists():
        return None
    try:
        table = pq.read_table(path, columns=["loss", "loss_alone"])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: the cached scores can't be read ({error}); delete the file") from None
    return table["loss"].to_numpy(), table["loss_alone"].to_numpy()


def keep_losses(path: Path, loss_N: np.ndarray, loss_alone_N: np.ndarray) -> None:
    """Keeps the losses in `path`, all or nothing; DataError when the file can't be written."""
    with _told(path), atomic_path(path) as temporary:
        pq.write_table(pa.table({"loss": loss_N, "loss_alone": loss_alone_N}), temporary)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: the scores can't be kept ({error.strerror or error}); free space, or set HBO_CACHE to another "
            "folder"
        ) from None
