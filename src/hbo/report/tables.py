"""The ledger's lines → arrays: what the charts draw and the tables print.

S lines, K datasets, L levels. Where a dataset has fewer groups than the widest, and where nothing
was measured, arrays hold NaN (counts hold 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbo.core.stream import row_odds
from hbo.folder.ledger import Line

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tables:
    """A ledger as series over its lines, in the lines' order."""

    step_S: NDArray[np.int64]
    p_SK: Array
    q_SKL: Array
    reward_SK: Array
    reward_se_SK: Array
    reward_SKL: Array
    reward_se_SKL: Array
    drawn_SKL: Array
    """Rows consumed from the start of the run up to each line."""
    drawn_KL: Array
    """Rows consumed by the whole run, or up to the last line of one that goes on."""
    asked_KL: Array
    """Of as many rows, how many the probabilities in force asked for."""

    @property
    def groups(self) -> int:
        """L, the most groups that a dataset has."""
        return int(self.q_SKL.shape[2])

    @property
    def moved(self) -> bool:
        """Whether any probability ever changed."""
        return bool(np.nanmax(np.ptp(self.p_SK, axis=0)) > 0 or np.nanmax(np.ptp(self.q_SKL, axis=0)) > 0)


def tables(lines: Sequence[Line], whole_KL: Sequence[Sequence[int]] | None = None) -> Tables:
    """The ledger as arrays.

    Args:
        lines: Its lines.
        whole_KL: Rows that the whole run took from each group; None: what the lines count.

    Example:
        >>> line = Line(0, 0, (1.0,), ((0.5, 0.5),), None, None, None, None, ((0, 0),), 0.0, 0)
        >>> tables([line]).q_SKL.shape
        (1, 1, 2)
    """
    levels = max(len(q) for q in lines[0].q_KL)
    drawn_SKL = np.nan_to_num(np.stack([_padded(line.drawn_KL, levels) for line in lines])).cumsum(axis=0)
    drawn_KL = drawn_SKL[-1] if whole_KL is None else np.nan_to_num(_padded(whole_KL, levels))
    shape = (len(lines[0].p_K), levels)
    return Tables(
        step_S=np.array([line.step for line in lines], dtype=np.int64),
        p_SK=np.array([line.p_K for line in lines]),
        q_SKL=np.stack([_padded(line.q_KL, levels) for line in lines]),
        reward_SK=_stacked([_row(line.reward_K) for line in lines], shape[:1]),
        reward_se_SK=_stacked([_row(line.reward_se_K) for line in lines], shape[:1]),
        reward_SKL=_stacked([_table(line.reward_KL, levels) for line in lines], shape),
        reward_se_SKL=_stacked([_table(line.reward_se_KL, levels) for line in lines], shape),
        drawn_SKL=drawn_SKL,
        drawn_KL=drawn_KL,
        asked_KL=asked_rows(lines, float(drawn_KL.sum())),
    )


def asked_rows(lines: Sequence[Line], rows: float) -> Array:
    """Rows of each group (K, L) that the probabilities in force asked for among the first `rows` of the stream.

    A line's probabilities are in force from its `start` to the next line's, so an update that came
    into effect late (`update_lag`) is counted from there. Of packed rows, of which the probabilities are shares of
    examples, a group is asked for the fewer the more examples one holds.
    """
    levels = max(len(q) for q in lines[0].q_KL)
    starts = [0, *(line.start for line in lines[1:]), np.inf]
    asked_KL = np.zeros((len(lines[0].p_K), levels))
    for line, begin, end in zip(lines, starts[:-1], starts[1:], strict=True):
        q_KL = np.nan_to_num(_padded(line.q_KL, levels))
        if lines[0].per_row_KL is None:
            share_KL = np.array(line.p_K)[:, None] * q_KL
        else:
            share_KL = row_odds(np.array(line.p_K), q_KL, np.nan_to_num(_padded(lines[0].per_row_KL, levels)))
            share_KL /= max(share_KL.sum(), np.finfo(float).tiny)
        asked_KL += max(0.0, min(end, rows) - min(begin, rows)) * share_KL
    return asked_KL


def epochs(drawn_KL: Array, sizes: Mapping[str, Sequence[int]], datasets: Sequence[str]) -> Array:
    """How often each row of a group was seen on average (K, L); NaN where the size isn't known.

    Example:
        >>> epochs(np.array([[6.0, 3.0]]), {"math": [2, 3]}, ["math"]).tolist()
        [[3.0, 1.0]]
    """
    seen_KL = np.full(drawn_KL.shape, np.nan)
    for k, name in enumerate(datasets):
        for level, size in enumerate(sizes.get(name, ())):
            if size > 0:
                seen_KL[k, level] = drawn_KL[k, level] / size
    return seen_KL


def target(reward: Array) -> Array:
    """Where the actors are heading: each choice's share of the reward, along the last axis.

    NaN where the rewards weren't measured or don't give shares (p ∝ reward needs rewards of at least 0).
    """
    total = np.nansum(reward, axis=-1, keepdims=True)
    usable = (total > 0) & ~np.any(reward < 0, axis=-1, keepdims=True)
    shares: Array = np.divide(reward, total, out=np.full(reward.shape, np.nan), where=usable)
    return shares


def evenly(count: int, most: int) -> list[int]:
    """At most `most` (2 or more) of the indices 0..count−1, evenly spread, first and last among them.

    Example:
        >>> evenly(9, 3)
        [0, 4, 8]
    """
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def averaged(steps: Sequence[int], values: Sequence[float], most: int) -> tuple[list[int], list[float]]:
    """A long series as at most `most` points, each the mean of its neighbours at the last one's step.

    Example:
        >>> averaged([1, 2, 3, 4], [1.0, 3.0, 5.0, 7.0], 2)
        ([2, 4], [2.0, 6.0])
    """
    if len(steps) <= most:
        return list(steps), list(values)
    pieces = np.array_split(np.arange(len(steps)), most)
    return [int(steps[piece[-1]]) for piece in pieces], [float(np.mean(np.take(values, piece))) for piece in pieces]


def _padded(rows: Sequence[Sequence[float]], levels: int) -> Array:
    padded = np.full((len(rows), levels), np.nan)
    for k, row in enumerate(rows):
        padded[k, : len(row)] = row
    return padded


def _row(row: Sequence[float] | None) -> Array | None:
    return None if row is None else np.array(row)


def _table(rows: Sequence[Sequence[float]] | None, levels: int) -> Array | None:
    return None if rows is None else _padded(rows, levels)


def _stacked(found: Sequence[Array | None], shape: tuple[int, ...]) -> Array:
    missing = np.full(shape, np.nan)
    return np.stack([missing if values is None else values for values in found])
