"""How long a grid will still take, with several runs at once."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def seconds_to_the_end(running: Sequence[float], waiting: int, each: float, at_once: int) -> float:
    """When the last run ends, if those that wait start one by one as others end.

    Args:
        running: What is left of each run that goes on.
        waiting: Runs that haven't started.
        each: What a run takes from its start.
        at_once: How many go on at once.

    Example:
        >>> seconds_to_the_end([10.0], waiting=3, each=60.0, at_once=2)
        120.0
    """
    ends = [*running, *[0.0] * (at_once - len(running))]
    heapq.heapify(ends)
    for _ in range(waiting):
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends, default=0.0)
