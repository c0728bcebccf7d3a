"""How progress is shown: bars in a terminal, plain lines in a pipe or a file (nohup, SLURM, the logs of a grid)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from hbo.cli.console import console, is_first, say
from hbo.cli.shares import shares_told
from hbo.progress import Lap, Track, silent, unheard
from hbo.text import duration

_OFTEN = 60.0  # seconds after which a long phase says where it is
_LONG = 2.0  # seconds of a phase that are worth a line


class Screen(Protocol):
    """Shows phases and laps."""

    def track(self, phase: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """A `hbo.progress.Track`."""

    def hear(self, lap: Lap) -> None:
        """A `hbo.progress.Hear`."""


@contextmanager
def screen() -> Iterator[Screen]:
    """What fits where standard error goes; nothing is shown by processes after the first."""
    if not is_first:
        yield Nothing()
    elif console.is_terminal:
        from hbo.cli.bars import Bars

        with Bars(console) as shown:
            yield shown
    else:
        yield PlainLines(say)


@contextmanager
def bars() -> Iterator[Track]:
    """A `hbo.progress.Track` for commands that don't train."""
    with screen() as shown:
        yield shown.track


class Nothing:
    """Shows nothing."""

    track = staticmethod(silent)
    hear = staticmethod(unheard)


class PlainLines:
    """Shows a line now and then: one for each lap, and for phases that take long.

    Args:
        say: Prints a line.
        clock: Seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._said, self._laps = clock(), 0

    @contextmanager
    def track(self, phase: str, total: int) -> Iterator[Callable[[int], None]]:
        """A `hbo.progress.Track`."""
        began, done, laps = self._clock(), 0, self._laps
        self._said = began

        def advance(count: int) -> None:
            nonlocal done
            done += count
            now = self._clock()
            if now - self._said >= _OFTEN and 0 < done < total:
                self._tell(f"{phase}: {done:,} of {total:,}, {duration((now - began) * (total - done) / done)} left")

        yield advance
        if (took := self._clock() - began) >= _LONG and laps == self._laps:
            self._tell(f"{phase}: {total:,} in {duration(took)}")

    def hear(self, lap: Lap) -> None:
        """A `hbo.progress.Hear`."""
        self._laps += 1
        left = "" if lap.seconds_left is None or lap.step >= lap.steps else f", {duration(lap.seconds_left)} left"
        self._tell(f"step {lap.step} of {lap.steps}: loss {lap.loss:.4g}; {shares_told(lap.shares)}{left}")

    def _tell(self, line: str) -> None:
        self._said = self._clock()
        self._say(line)
