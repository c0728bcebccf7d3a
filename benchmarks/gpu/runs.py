"""Runs of a grid as processes of their own, several at a time, until the time is up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hbo.compare.grid import Cell
from hbo.config.file import dump


class Runs:
    """Cells in their order, a few at a time, none begun that would end too late."""

    def __init__(self, grid: Sequence[Cell], slots: int, ends: float) -> None:
        self.waiting, self.slots, self.ends = list(grid), slots, ends
        self.going: dict[subprocess.Popen[bytes], tuple[Cell, float]] = {}
        self.seconds: list[float] = []
        self.failed: dict[str, str] = {}

    def run(self) -> None:
        """Returns when all that was begun has ended, or the time is up."""
        while (self.waiting or self.going) and time.monotonic() < self.ends:
            self._reap()
            if self.waiting and len(self.going) < self.slots:
                if time.monotonic() + max(self.seconds[-self.slots :], default=0) > self.ends:
                    self.waiting = []
                    continue
                cell = self.waiting.pop(0)
                self.going[_start(cell, self.slots)] = cell, time.monotonic()
            else:
                time.sleep(0.1)

    def stop(self) -> None:
        """Ends what is going on."""
        self._reap()
        for process in self.going:
            process.kill()
            process.wait()

    def _reap(self) -> None:
        for process, (cell, began) in list(self.going.items()):
            if process.poll() is None:
                continue
            del self.going[process]
            if process.returncode:
                self.failed[f"{cell.label}, seed {cell.seed}"] = _tail(_log(cell))
            else:
                self.seconds.append(time.monotonic() - began)


def _start(cell: Cell, slots: int) -> subprocess.Popen[bytes]:
    cell.file.parent.mkdir(parents=True, exist_ok=True)
    cell.file.write_text(dump(cell.config), encoding="utf-8")
    threads = max(1, (os.cpu_count() or 1) // slots)
    command = [sys.executable, "-m", "hbo", "train", str(cell.file), "--overwrite"]
    with _log(cell).open("wb") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )


def _log(cell: Cell) -> Path:
    return cell.folder.with_name(f"{cell.folder.name}.log")


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")[:300]
