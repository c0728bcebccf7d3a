"""How long work says where it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

Track = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""`with track("scoring", total) as advance: advance(3)`: a phase's name, its size, and the way to move on."""


@dataclass(frozen=True)
class Lap:
    """Where training stands when its loss is logged."""

    step: int
    steps: int
    loss: float
    shares: Mapping[str, float]
    """Dataset → share of the rows that are drawn next."""
    seconds_left: float | None = None


Hear = Callable[[Lap], None]
"""Is told of each lap."""


@contextmanager
def silent(phase: str, total: int) -> Iterator[Callable[[int], None]]:
    """A Track that shows nothing.

    Example:
        >>> with silent("scoring", 3) as advance:
        ...     advance(3)
    """
    yield lambda count: None


def unheard(lap: Lap) -> None:
    """A Hear that shows nothing."""
