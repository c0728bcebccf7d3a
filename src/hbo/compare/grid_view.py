"""A grid at one moment, for whoever shows it: what each of its runs does, and what is left of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hbo.folder.log import Tail
from hbo.folder.paths import STATUS, stamp_of
from hbo.folder.status import read_status


@dataclass(frozen=True)
class RunningCell:
    """A run that goes on, in words."""

    name: str
    """Method, settings and seed."""
    doing: str
    done: int
    total: int
    """How far it has come with that, where `total` isn't 0."""
    loss: float | None
    seconds_left: float | None
    """Of what it is doing."""


@dataclass(frozen=True)
class GridView:
    """All runs of a grid."""

    running: tuple[RunningCell, ...]
    finished: int
    failed: int
    total: int
    seconds_left: float | None


Show = Callable[[GridView], None]
"""Shows a grid now and then."""


class CellWatch:
    """Looks at the folder of a run that was started just now.

    Args:
        name: Of the run.
        folder: Its folder; what an earlier attempt left there isn't taken for this one's.
        doing: What it does until its folder says so.
    """

    def __init__(self, name: str, folder: Path, doing: str) -> None:
        self._name, self._folder, self._doing = name, folder, doing
        self._before, self._tail = stamp_of(folder / STATUS), Tail(folder)
        self._loss: float | None = None

    def look(self) -> RunningCell:
        """What the run does now."""
        told = None if stamp_of(self._folder / STATUS) == self._before else read_status(self._folder)
        if told is None or told.end is not None:
            return RunningCell(self._name, self._doing, 0, 0, None, None)
        if told.trains:
            self._listen()
        left = told.seconds_left if told.done < told.total else None
        return RunningCell(self._name, told.phase, min(told.done, told.total), told.total, self._loss, left)

    def _listen(self) -> None:
        for row in self._tail.read()[1]:
            if isinstance(loss := row.get("loss"), float):
                self._loss = loss
