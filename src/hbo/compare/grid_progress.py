"""What a grid says while it runs: a line when a run starts, and one with its result and the time left when it ends."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from hbo.compare.grid import Cell
from hbo.folder.metrics import Metrics
from hbo.folder.paths import METRICS_FILE
from hbo.text import counted, duration


class Progress:
    """Tells of the cells of a grid.

    Args:
        cells: All of them.
        say: Prints a line.
        clock: Seconds.
    """

    def __init__(
        self, cells: Sequence[Cell], say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cells, self._say, self._clock = cells, say, clock
        self._took: list[float] = []
        self._failed: list[Cell] = []
        self._began = clock()

    def begins(self) -> None:
        """Says what the lines will show."""
        left = sum(not cell.is_finished for cell in self._cells)
        shown = "; of each its mean held-out loss, the time it took, and the time left for all" if left else ""
        self._say(f"{counted(len(self._cells), 'run')}, {left} to do{shown}")

    def starts(self, cell: Cell, how: str) -> None:
        """Says that a run starts, or goes on."""
        self._began = self._clock()
        self.of(cell, how)

    def finished(self, cell: Cell) -> None:
        """Says what a run came to, what it took, and what the others will take at this pace."""
        took = self._clock() - self._began
        self._took.append(took)
        metrics = Metrics.read(cell.folder / METRICS_FILE)
        loss = metrics.macro_nll if metrics else None
        result = "no held-out loss" if loss is None else f"{loss:.3f}"
        waiting = sum(not each.is_finished and each not in self._failed for each in self._cells)
        left = f", about {duration(waiting * statistics.mean(self._took))} left" if waiting else ""
        self.of(cell, f"{result}, {duration(took)}{left}")

    def failed(self, cell: Cell, why: str) -> None:
        """Says that a run failed."""
        self._failed.append(cell)
        self.of(cell, why)

    def of(self, cell: Cell, what: str) -> None:
        """Says something of a run, with its place among all."""
        self._say(f"[{self._cells.index(cell) + 1}/{len(self._cells)}] {cell.label}, seed {cell.seed}: {what}")
