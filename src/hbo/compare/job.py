"""A cell that is trained or evaluated now: whether it has ended, and how it is told to."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from hbo.compare.child import Child
from hbo.compare.grid import Cell
from hbo.compare.places import Place
from hbo.folder.paths import STOP
from hbo.folder.status import is_running, read_status

_LATE = 60.0  # seconds after which every host sees a file that another has written to a disk they share


@dataclass
class Job:
    """A command that works on a cell."""

    cell: Cell
    held: int
    """The descriptor of the cell's lock."""
    place: Place
    child: Child
    look: Callable[[bool], None]
    """Hears, again and again, whether the child has ended."""
    is_training: bool
    is_launched: bool = False
    """Whether the child is a launcher, and the run may be on another machine."""
    is_stopped: bool = False
    _ended: float | None = None

    def code(self) -> int | None:
        """The exit code once the command has ended, and with it all that it started; None before that."""
        code = self.child.code()
        self.look(code is not None)
        if code is None or not self.is_launched:
            return code
        if self.is_stopped:
            return None if goes_on(self.cell) else code
        if not code and not self.cell.is_finished:
            self._ended = self._ended or time.monotonic()
            return None if time.monotonic() - self._ended < _LATE else code
        return code

    def stop(self) -> None:
        """Tells the run to save and end; told again, it ends at once."""
        again, self.is_stopped = self.is_stopped, True
        if not self.is_launched:
            self.child.stop()
            return
        # A launcher kills its run when that hasn't ended some seconds after the signal; so a file tells the run.
        told = read_status(self.cell.folder)
        if self.cell.folder.is_dir():
            with contextlib.suppress(OSError):
                (self.cell.folder / STOP).touch()
        if again or told is None or told.phase != "training" or told.end is not None:
            self.child.stop_all()  # there is nothing to save
            if told is not None and is_running(told):
                with contextlib.suppress(OSError):
                    os.kill(told.pid, signal.SIGTERM)


def goes_on(cell: Cell) -> bool:
    """Whether the cell's run lives on this machine, though its launcher may have ended."""
    told = read_status(cell.folder)
    return told is not None and is_running(told)
