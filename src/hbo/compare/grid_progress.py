"""What a grid says while it runs: a line when a run starts, and one with its result and the time left when it ends."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hbo.compare.grid import Cell
from hbo.compare.grid_view import CellWatch, GridView, RunningCell, Show
from hbo.compare.time_left import seconds_to_the_end
from hbo.folder.metrics import Metrics
from hbo.folder.paths import METRICS_FILE
from hbo.text import counted, duration

_OFTEN = 1.0  # seconds between two looks at the runs' folders


class Progress:
    """Tells of the cells of a grid.

    Args:
        cells: All of them.
        say: Prints a line.
        at_once: How many run at once.
        show: Shows the runs that go on, so that no line needs to say that one starts; None: nobody does.
        clock: Seconds.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        say: Callable[[str], None],
        at_once: int = 1,
        show: Show | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cells, self._say, self._at_once, self._show, self._clock = cells, say, at_once, show, clock
        self._took: list[float] = []
        self._failed: list[Cell] = []
        self._began: dict[Path, float] = {}
        self._watched: dict[Path, CellWatch] = {}
        self._shown = -_OFTEN

    def begins(self) -> None:
        """Says what the lines will show."""
        left = sum(not cell.is_finished for cell in self._cells)
        shown = "; of each its mean held-out loss, the time it took, and the time left for all" if left else ""
        together = f", {self._at_once} at once" if self._at_once > 1 and left > 1 else ""
        self._say(f"{counted(len(self._cells), 'run')}, {left} to do{together}{shown}")

    def starts(self, cell: Cell, how: str) -> None:
        """Says that a run starts, or goes on."""
        self._began[cell.folder] = self._clock()
        self._watched[cell.folder] = CellWatch(f"{cell.label}, seed {cell.seed}", cell.folder, "starts")
        if self._show is None:
            self.of(cell, how)

    def finished(self, cell: Cell, elsewhere: int = 0) -> None:
        """Says what a run came to, what it took, and what the others will take at this pace.

        Args:
            cell: The run.
            elsewhere: How many run now because of other runners.
        """
        took = self._clock() - self._began[cell.folder]
        self._ends(cell)
        self._took.append(took)
        metrics = Metrics.read(cell.folder / METRICS_FILE)
        loss = metrics.macro_nll if metrics else None
        result = "no held-out loss" if loss is None else f"{loss:.3f}"
        left = self._seconds_left({}, elsewhere)
        self.of(cell, f"{result}, {duration(took)}{f', about {duration(left)} left' if left else ''}")

    def evaluates(self, cell: Cell) -> None:
        """Says that a finished run is evaluated now."""
        self._watched[cell.folder] = CellWatch(f"{cell.label}, seed {cell.seed}", cell.folder, "is evaluated")
        if self._show is None:
            self.of(cell, "is evaluated")

    def evaluated(self, cell: Cell) -> None:
        """Takes note that the evaluation has ended."""
        self._ends(cell)

    def failed(self, cell: Cell, why: str) -> None:
        """Says that a run failed."""
        self._ends(cell)
        self._failed.append(cell)
        self.of(cell, why)

    def of(self, cell: Cell, what: str) -> None:
        """Says something of a run, with its place among all."""
        self._say(f"[{self._cells.index(cell) + 1}/{len(self._cells)}] {cell.label}, seed {cell.seed}: {what}")

    def goes_on(self, elsewhere: int) -> None:
        """Shows the runs, when it is time to; `elsewhere` as above."""
        if self._show is None or self._clock() - self._shown < _OFTEN:
            return
        self._shown = self._clock()
        seen = {folder: watch.look() for folder, watch in self._watched.items()}
        finished = sum(cell.is_finished for cell in self._cells)
        left = self._seconds_left(seen, elsewhere)
        self._show(GridView(tuple(seen.values()), finished, len(self._failed), len(self._cells), left))

    def _ends(self, cell: Cell) -> None:
        self._began.pop(cell.folder, None)
        self._watched.pop(cell.folder, None)

    def _seconds_left(self, seen: dict[Path, RunningCell], elsewhere: int) -> float | None:
        spent = {folder: self._clock() - began for folder, began in self._began.items()}
        training = {f: run.seconds_left for f, run in seen.items() if run.doing == "training" and run.seconds_left}
        known = self._took or [spent[folder] + left for folder, left in training.items()]
        if not known:
            return None
        each = statistics.mean(known)
        running = [training.get(folder, max(each - so_far, 0.0)) for folder, so_far in spent.items()]
        waits = [cell for cell in self._cells if not cell.is_finished and cell not in self._failed]
        waiting = sum(cell.folder not in spent for cell in waits)
        return seconds_to_the_end(running, waiting, each, max(self._at_once, len(running)) + elsewhere)
