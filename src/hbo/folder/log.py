"""`log.jsonl`: the trainer's log as it grows, a line per entry of its history."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hbo.folder.metrics import Training
from hbo.folder.status import Status, read_status

FILE = "log.jsonl"
Row = Mapping[str, Any]


class Tail:
    """Reads what has been added to a run's log since the last time, and all of it when it was written anew.

    A line that isn't whole yet is left for later; one that is no entry of a log (cut short by a full disk) is left out.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE
        self._place: tuple[int, int] = (0, 0)  # the file's inode, bytes read of it

    def read(self) -> tuple[bool, list[Row]]:
        """Whether the log begins anew, and its new entries.

        Raises:
            Nothing: without a file there is nothing new.
        """
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
        return is_new, list(_rows(whole))


def read_log(folder: Path) -> Training | None:
    """The log of a run as far as it has come, or None when it keeps none.

    Raises:
        Nothing.
    """
    _, rows = Tail(folder).read()
    if not rows:
        return None
    status = read_status(folder)
    step = max(row["step"] for row in rows)
    return Training(FILE, step, _planned(status), tuple(rows))


def further(saved: Training | None, growing: Training | None) -> Training | None:
    """The log that has come further; the trainer's own, if both have come as far."""
    if saved is None or growing is None:
        return saved or growing
    return growing if growing.step > saved.step else saved


def _planned(status: Status | None) -> int:
    return status.total if status and status.phase == "training" else 0


def _rows(raw: bytes) -> Iterator[Row]:
    for line in raw.split(b"\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        step = row.get("step") if isinstance(row, dict) else None
        if isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 2**53:
            yield row
