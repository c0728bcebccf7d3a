"""A run's ledger as arrays, the shares that its rewards pull towards, and several runs told apart.

S lines, K datasets, L levels. Where a dataset has fewer groups than the widest, and where nothing
was measured, arrays hold NaN (counts hold 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hbo.arrays import Floats, Ints
from hbo.config.actors import ACTORS, actor_spec
from hbo.config.methods import actor_kind, is_flat
from hbo.core.stream import row_odds
from hbo.errors import ConfigError
from hbo.folder.ledger import Line
from hbo.folder.run import Run, read_run


@dataclass(frozen=True)
class Series:
    """A ledger as series over its lines, in the lines' order."""

    step_S: Ints
    p_SK: Floats
    q_SKL: Floats
    reward_SK: Floats
    reward_se_SK: Floats
    reward_SKL: Floats
    reward_se_SKL: Floats
    drawn_KL: Floats
    """Rows consumed by the whole run, or up to the last line of one that goes on."""
    asked_KL: Floats
    """Of as many rows, how many the probabilities in force asked for."""

    @property
    def groups(self) -> int:
        """L, the most groups that a dataset has."""
        return int(self.q_SKL.shape[2])

    @property
    def moved(self) -> bool:
        """Whether any probability ever changed."""
        return bool(np.nanmax(np.ptp(self.p_SK, axis=0)) > 0 or np.nanmax(np.ptp(self.q_SKL, axis=0)) > 0)

    @property
    def measured(self) -> bool:
        """Whether any reward was ever measured."""
        return bool(np.isfinite(self.reward_SK).any() or np.isfinite(self.reward_SKL).any())


def series_of(lines: Sequence[Line], whole_KL: Sequence[Sequence[int]] | None = None) -> Series:
    """The ledger as arrays.

    Args:
        lines: Its lines.
        whole_KL: Rows that the whole run took from each group; None: what the lines count.

    Example:
        >>> line = Line(0, 0, (1.0,), ((0.5, 0.5),), None, None, None, None, ((0, 0),), 0.0, 0)
        >>> series_of([line]).q_SKL.shape
        (1, 1, 2)
    """
    levels = max(len(q) for q in lines[0].q_KL)
    counts = [_padded(line.drawn_KL, levels) for line in lines] if whole_KL is None else [_padded(whole_KL, levels)]
    drawn_KL = np.nan_to_num(np.stack(counts)).sum(axis=0)
    none_K, none_KL = np.full(len(lines[0].p_K), np.nan), np.full(drawn_KL.shape, np.nan)

    def datasets(values: Sequence[Sequence[float] | None]) -> Floats:
        return np.stack([none_K if row is None else np.array(row) for row in values])

    def cells(values: Sequence[Sequence[Sequence[float]] | None]) -> Floats:
        return np.stack([none_KL if rows is None else _padded(rows, levels) for rows in values])

    return Series(
        step_S=np.array([line.step for line in lines], dtype=np.int64),
        p_SK=datasets([line.p_K for line in lines]),
        q_SKL=cells([line.q_KL for line in lines]),
        reward_SK=datasets([line.reward_K for line in lines]),
        reward_se_SK=datasets([line.reward_se_K for line in lines]),
        reward_SKL=cells([line.reward_KL for line in lines]),
        reward_se_SKL=cells([line.reward_se_KL for line in lines]),
        drawn_KL=drawn_KL,
        asked_KL=asked_rows(lines, float(drawn_KL.sum())),
    )


def asked_rows(lines: Sequence[Line], rows: float) -> Floats:
    """Rows of each group (K, L) that the probabilities in force asked for among the first `rows` of the stream.

    A line's probabilities are in force from its `start` to the next line's, so an update that came
    into effect late (`update_lag`) is counted from there. Packed rows hold several examples, and the probabilities
    are shares of examples: the more examples a row of a group holds, the fewer of its rows are asked for.
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


def epochs(drawn_KL: Floats, sizes: Mapping[str, Sequence[int]], datasets: Sequence[str]) -> Floats:
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


def reward_shares(run: Run, series: Series) -> tuple[Floats, Floats]:
    """Where the updates pull the probabilities: p_SK and q_SKL, each choice's share of the rewards of its level.

    NaN where rewards weren't measured or give no shares, and everywhere for an actor whose fixed point isn't
    p ∝ reward. Under MoS+ one actor holds all groups, so a dataset's share is what its groups have of all rewards.
    """
    kinds = [kind for kind in (run.actor, actor_kind(run.method)) if kind in ACTORS or ":" in kind]
    if not all(actor_spec(kind).rests_at_rewards for kind in kinds):
        return np.full(series.reward_SK.shape, np.nan), np.full(series.reward_SKL.shape, np.nan)
    reward_SK = series.reward_SK
    if is_flat(run.method):
        measured = np.isfinite(series.reward_SKL).any(axis=-1)
        reward_SK = np.where(measured, np.nansum(series.reward_SKL, axis=-1), np.nan)
    return target(reward_SK), target(series.reward_SKL)


def target(reward: Floats) -> Floats:
    """Each choice's share of the reward, along the last axis; NaN where a reward is below 0 or the sum isn't above."""
    total = np.nansum(reward, axis=-1, keepdims=True)
    usable = (total > 0) & ~np.any(reward < 0, axis=-1, keepdims=True)
    shares: Floats = np.divide(reward, total, out=np.full(reward.shape, np.nan), where=usable)
    return shares


def group_name(j: int, groups: int) -> str:
    """What group `j` of a dataset is called.

    Example:
        >>> [group_name(j, 3) for j in range(3)]
        ['g1 (easiest)', 'g2', 'g3 (hardest)']
    """
    ends = {0: " (easiest)", groups - 1: " (hardest)"} if groups > 1 else {}
    return f"g{j + 1}{ends.get(j, '')}"


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


@dataclass(frozen=True)
class Shown:
    """One of the runs on a page.

    Attributes:
        label: The shortest end of its path that no other run has.
        prefix: What the ids of its figures begin with; nothing where it is the only run.
        run: What its folder holds.
        series: Its ledger.
    """

    label: str
    prefix: str
    run: Run
    series: Series


def read_runs(folders: Sequence[Path]) -> list[Shown]:
    """The runs in `folders`, in this order.

    Raises:
        ConfigError: A folder is given twice.
        DataError: A folder isn't a run's, or a file of it is broken.
    """
    whole = [folder.resolve() for folder in folders]
    for place, folder in enumerate(whole):
        if folder in whole[:place]:
            raise ConfigError(f"{folders[place]}: is given twice; name each run once")
    return told_apart([read_run(folder) for folder in folders])


def told_apart(runs: Sequence[Run]) -> list[Shown]:
    """The runs of different folders, each with its label, the prefix of its figures and its series."""
    names = labels([run.folder.resolve() for run in runs])
    prefixes = [f"r{i}-" if len(runs) > 1 else "" for i in range(len(runs))]
    series = [series_of(run.lines, run.drawn_KL) for run in runs]
    return [Shown(*each) for each in zip(names, prefixes, runs, series, strict=True)]


def labels(folders: Sequence[Path]) -> list[str]:
    """For each of these different folders the shortest end of its path that no other ends with.

    Example:
        >>> labels([Path("/a/x/run"), Path("/a/y/run"), Path("/a/other")])
        ['x/run', 'y/run', 'other']
    """
    found = []
    for folder in folders:
        depth = 1
        while depth < len(folder.parts) and sum(x.parts[-depth:] == folder.parts[-depth:] for x in folders) > 1:
            depth += 1
        found.append("/".join(folder.parts[-depth:]))
    return found


def places(runs: Sequence[Shown]) -> dict[str, int]:
    """Each dataset of any of the runs → its place among the colours: the same in all of them."""
    names = dict.fromkeys(name for shown in runs for name in shown.run.datasets)
    return {name: place for place, name in enumerate(names)}


def _padded(rows: Sequence[Sequence[float]], levels: int) -> Floats:
    padded = np.full((len(rows), levels), np.nan)
    for k, row in enumerate(rows):
        padded[k, : len(row)] = row
    return padded
