"""The trainer's log: `log.jsonl` while it grows, a line per entry, and `trainer_state.json` once it was saved."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbo.atomic import write_file
from hbo.errors import DataError
from hbo.folder.paths import LOG, TRAINER_STATE, checkpoints
from hbo.folder.records import AGAIN, Count, Record, read_object
from hbo.folder.status import read_status

LogRow = Mapping[str, Any]


@dataclass(frozen=True)
class Training:
    """The trainer's own log, and which file it came from."""

    source: str
    step: int
    max_steps: int
    log: tuple[LogRow, ...]

    def series(self, key: str) -> tuple[list[int], list[float]]:
        """The steps at which `key` was logged, and its values."""
        numbers = [(row["step"], row[key]) for row in self.log if isinstance(row.get(key), int | float)]
        found = [(step, value) for step, value in numbers if not isinstance(value, bool)]
        return [step for step, _ in found], [float(value) for _, value in found]


class _Steps(Record):
    global_step: Count = 0
    max_steps: Count = 0


def read_training(folder: Path) -> Training | None:
    """The log of the finished run, else of its latest checkpoint, else None.

    Raises:
        DataError: The file isn't a trainer's state.
    """
    for place in (folder, *checkpoints(folder)):
        file = place / TRAINER_STATE
        data = read_object(file)
        if data is None:
            continue
        rows = data.get("log_history", [])
        if not isinstance(rows, list) or not all(map(_is_entry, rows)):
            raise DataError(f"{file}: 'log_history' must be a list of entries that each have a 'step'; {AGAIN}")
        steps = _Steps.checked(data, str(file))
        return Training(file.relative_to(folder).as_posix(), steps.global_step, steps.max_steps, tuple(rows))
    return None


def read_log(folder: Path) -> Training | None:
    """The log of a run as far as it has come, or None when it keeps none."""
    _, rows = Tail(folder).read()
    if not rows:
        return None
    status = read_status(folder)
    planned = status.total if status and status.phase == "training" else 0
    return Training(LOG, max(row["step"] for row in rows), planned, tuple(rows))


def further(saved: Training | None, growing: Training | None) -> Training | None:
    """The log that has come further; the trainer's own, if both have come as far."""
    if saved is None or growing is None:
        return saved or growing
    return growing if growing.step > saved.step else saved


class Tail:
    """Reads what has been added to a run's log since the last time, and all of it when it was written anew.

    A line that isn't whole yet is left for later; one that is no entry of a log (cut short by a full disk) is left out.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / LOG
        self._place: tuple[int, int] = (0, 0)  # the file's inode, bytes read of it

    def read(self) -> tuple[bool, list[LogRow]]:
        """Whether the log begins anew, and its new entries; without a file there is nothing new."""
        try:
            with self.file.open("rb") as file:
                found = os.fstat(file.fileno())
                inode, size = found.st_ino, found.st_size
                # A resumed run replaces the file by one that ends where its checkpoint did.
                is_new = inode != self._place[0] or size < self._place[1]
                start = 0 if is_new else self._place[1]
                file.seek(start)
                added = file.read()
        except OSError:
            return False, []
        whole = added[: added.rfind(b"\n") + 1]
        self._place = (inode, start + len(whole))
        return is_new, list(_entries(whole))


def begin_log(folder: Path, entries: Iterable[LogRow]) -> None:
    """Begins the log anew with these entries. It only helps to watch a run, so a disk that doesn't take it is fine."""
    with contextlib.suppress(DataError):
        write_file(folder / LOG, _lines(entries))


def extend_log(folder: Path, entries: Iterable[LogRow]) -> None:
    """Appends entries, if the disk takes them."""
    with contextlib.suppress(OSError), (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(_lines(entries))


def _lines(entries: Iterable[LogRow]) -> str:
    return "".join(json.dumps(entry, ensure_ascii=False, default=str) + "\n" for entry in entries)


def _entries(raw: bytes) -> Iterator[LogRow]:
    for line in raw.split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):
            if _is_entry(row := json.loads(line)):
                yield row


def _is_entry(row: Any) -> bool:
    step = row.get("step") if isinstance(row, dict) else None
    return isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 2**53
