"""The stream of draws: which row stands at which position, a pure function of (seed, position, ledger).

Every draw is keyed by its position (`hbo.core.keys`), so a range can be computed without computing what came before it.
One thing does depend on the past: which of a group's rows comes next, that is how often the group was drawn before.
Those counts are kept at a few positions, and counted on from the nearest.

C = K·L groups, numbered dataset · L + level; in the code also called cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hbo.arrays import Floats, Ints, Words
from hbo.core.groups import Groups
from hbo.core.keys import Purpose, permuted, uniform
from hbo.core.ledger import Ledger
from hbo.core.prior import check_passes

_GOLDEN_RATIO = (5**0.5 - 1) / 2
_BELOW_ONE = float(np.nextafter(1.0, 0.0))
_CHUNK = 1 << 18  # positions at once


class Stream:
    """Rows by position.

    Each draw picks a dataset by p_K, then a level by q_KL. Inside a group, rows come without replacement, in a new
    order on every pass. If rows are packed, probabilities are shares of the examples drawn, so a group with more
    examples per row is drawn less often.

    Args:
        groups: Rows of every group. A group without rows is never drawn: its share goes to the others of its dataset.
        ledger: Probabilities by position; may grow while the stream is read.
        seed: Seed of all draws.
        stratified: Give every step exactly the shares, rounded to whole rows: a group with a share of 2.3 rows per step
            gets 2 or 3, and 2.3 on average. The field `steps` says where each step begins.
        max_passes: How often each row may be drawn; a group that reaches it gives its share to the others.

    Raises:
        ConfigError: `max_passes` is below 1.

    Example:
        >>> from hbo.core.ledger import Entry
        >>> groups = Groups.from_columns(["a"] * 3, [0, 0, 0])
        >>> ledger = Ledger(["a"], [Entry(0, 0, np.ones(1), np.ones((1, 1)))])
        >>> sorted(Stream(groups, ledger, seed=0).rows(0, 3).tolist())
        [0, 1, 2]
    """

    def __init__(
        self, groups: Groups, ledger: Ledger, seed: int = 0, *, stratified: bool = False, max_passes: int | None = None
    ) -> None:
        check_passes(max_passes)
        self.groups = groups
        self.ledger = ledger
        self.seed = seed
        self.stratified = stratified
        self.max_passes = max_passes
        self.steps = (1, 1)
        """Rows per step, and rows per epoch (whose last step may be shorter); used only if stratified."""
        self.size_C = groups.sizes_KL.ravel()
        # Draws of every group before some known positions, and before where the last range ended.
        self._before: dict[int, Ints] = {0: np.zeros(len(self.size_C), dtype=np.int64)}
        self._last: tuple[int, Ints] = (0, self._before[0])
        self._entries = len(ledger)  # of the ledger, that the counts have heard of

    def following(self, ledger: Ledger) -> Stream:
        """The same draws from another ledger."""
        stream = Stream(self.groups, ledger, self.seed, stratified=self.stratified, max_passes=self.max_passes)
        stream.steps = self.steps
        return stream

    def rows(self, start: int, stop: int) -> Ints:
        """Rows at positions [start, stop)."""
        parts = [self._rows(low, min(low + _CHUNK, stop)) for low in range(start, stop, _CHUNK)]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])

    def counts(self, start: int, stop: int) -> Ints:
        """How often each group stands at positions [start, stop); shape (K, L)."""
        before, after = self.drawn_before(start), self.drawn_before(stop)
        self._before[stop] = after  # a milestone: the next count begins here
        return (after - before).reshape(self.groups.sizes_KL.shape)

    def drawn_before(self, position: int) -> Ints:
        """How often each group (K·L,) stands before `position`; counted from the nearest known position."""
        self._forget_what_changed()
        base = max(p for p in (*self._before, self._last[0]) if p <= position)
        count = self._last[1] if base == self._last[0] else self._before[base]
        for cells in self._draws(base, position, count):
            count = count + self._count(cells)
        self._last = (position, count)
        return count

    def state_dict(self, position: int) -> dict[str, list[int] | int]:
        """What a checkpoint stores, so that the stream can continue at `position` in constant time."""
        return {"position": position, "drawn": self.drawn_before(position).tolist()}

    def load_state_dict(self, state: dict[str, list[int] | int]) -> None:
        """Restores what `state_dict` returned."""
        self._entries = len(self.ledger)
        self._last = (int(state["position"]), np.array(state["drawn"], dtype=np.int64))  # type: ignore[arg-type]
        self._before[self._last[0]] = self._last[1]

    def _forget_what_changed(self) -> None:
        # Rows may have been read ahead of an entry that starts before them; counts beyond its start are void.
        for entry in itertools.islice(self.ledger, self._entries, None):
            self._before = {p: count for p, count in self._before.items() if p <= entry.start}
            if self._last[0] > entry.start:
                self._last = (0, self._before[0])
        self._entries = len(self.ledger)

    def _count(self, cells: Ints) -> Ints:
        return np.bincount(cells, minlength=len(self.size_C))

    def _rows(self, start: int, stop: int) -> Ints:
        before = self.drawn_before(start)
        cells = np.concatenate(list(self._draws(start, stop, before)))
        # The n-th draw of its group inside this range: its place in the sorted run of its group.
        order = np.argsort(cells, kind="stable")
        run_start = np.searchsorted(cells[order], cells[order], side="left")
        nth = np.empty(len(cells), dtype=np.int64)
        nth[order] = np.arange(len(cells)) - run_start
        drawn, size = before[cells] + nth, self.size_C[cells]
        self._last = (stop, before + self._count(cells))
        # Of `drawn` earlier draws so many were whole passes; the rest says where in this pass's order we are.
        place = permuted(self.seed, cells, drawn // size, drawn % size, size)
        rows: Ints = self.groups.order_N[self.groups.offsets[cells] + place].astype(np.int64)
        return rows

    def _draws(self, start: int, stop: int, drawn_C: Ints) -> Iterator[Ints]:
        """Groups of the positions in a range, piece by piece, where every group was drawn `drawn_C` times before it."""
        most_C = self.size_C * (self.max_passes or 0)
        borders = {entry.start for entry in self.ledger if start < entry.start < stop}
        for low, high in itertools.pairwise(sorted({start, *borders, stop})):
            while low < high:
                cells = self._cells(low, min(low + _CHUNK, high), drawn_C < most_C if self.max_passes else None)
                if self.max_passes:
                    # From where a group is full on, draws are made anew without it.
                    cells = cells[: _first_full(cells, most_C - drawn_C)]
                    drawn_C = drawn_C + self._count(cells)
                low += len(cells)
                yield cells

    def _cells(self, start: int, stop: int, is_open_C: NDArray[np.bool_] | None) -> Ints:
        """Group of each position in a range that lies within one entry, of the open ones (None: of all)."""
        entry = self.ledger.at(start)
        position = np.arange(start, stop, dtype=np.uint64)
        q_KL = np.where(self.groups.sizes_KL > 0, entry.q_KL, 0.0)
        if is_open_C is not None:
            left_KL = np.where(is_open_C.reshape(q_KL.shape), q_KL, 0.0)
            if (entry.p_K[left_KL.sum(axis=1) > 0] > 0).any():  # else all are full, and the cap can't be kept
                q_KL = left_KL
        p_K = np.where(q_KL.sum(axis=1) > 0, entry.p_K, 0.0)
        if self.groups.per_row_KL is not None:
            q_KL = row_odds(p_K, q_KL, self.groups.per_row_KL)
            p_K = q_KL.sum(axis=1)
        first = np.zeros(len(position), dtype=np.int64)
        if self.stratified:
            inside = np.divide(q_KL, q_KL.sum(axis=1, keepdims=True), out=np.zeros_like(q_KL), where=p_K[:, None] > 0)
            return _pick((p_K[:, None] * inside).reshape(1, -1), self._spread(position), first)
        dataset = _pick(p_K[None], uniform(self.seed, Purpose.DATASET, position), first)
        level = _pick(q_KL, uniform(self.seed, Purpose.LEVEL, position), dataset)
        return dataset * self.groups.levels + level

    def _spread(self, position: Words) -> Floats:
        """Evenly spaced numbers in [0, 1) for the rows of a step, from a start that itself is spread over the steps.

        Systematic sampling (Madow & Madow 1944): n equally spaced points meet a share p of the line ⌊np⌋ or ⌈np⌉ times.
        Starts are multiples of the golden ratio, so that a group due once in ten steps comes about every tenth.
        """
        rows, per_epoch = (np.uint64(value) for value in self.steps)
        epoch, within = position // per_epoch, position % per_epoch
        step, place = within // rows, within % rows
        size = np.minimum(rows, per_epoch - step * rows)  # of this step: an epoch's last may be shorter
        number = epoch * np.uint64(-(-self.steps[1] // self.steps[0])) + step
        first = uniform(self.seed, Purpose.STEP, np.zeros(1, dtype=np.uint64))
        start = (first + number.astype(np.float64) * _GOLDEN_RATIO) % 1.0
        spread: Floats = np.minimum((place + start) / size, _BELOW_ONE)
        return spread


def _first_full(cells: Ints, room_C: Ints) -> int:
    """How many of the draws there are until a group has no room left; all of them if none fills up."""
    filling = np.flatnonzero((room_C > 0) & (np.bincount(cells, minlength=len(room_C)) >= room_C))
    ends = [int(np.flatnonzero(cells == cell)[room_C[cell] - 1]) + 1 for cell in filling]
    return min(ends, default=len(cells))


def row_odds(p_K: Floats, q_KL: Floats, per_row_KL: Floats) -> Floats:
    """How often to draw a row of each group, so that on average p_K and q_KL are the shares of the examples drawn.

    Args:
        p_K: Share of each dataset.
        q_KL: Weight of each level inside its dataset.
        per_row_KL: Examples per row; 0 in a group without rows.

    Example:
        >>> row_odds(np.array([0.5, 0.5]), np.ones((2, 1)), np.array([[5.0], [1.0]])).ravel().tolist()
        [0.1, 0.5]
    """
    total_K1 = q_KL.sum(axis=1, keepdims=True)
    share_KL = p_K[:, None] * np.divide(q_KL, total_K1, out=np.zeros_like(q_KL), where=total_K1 > 0)
    odds_KL: Floats = np.divide(share_KL, per_row_KL, out=np.zeros_like(share_KL), where=per_row_KL > 0)
    return odds_KL


def _pick(weight_RC: Floats, u: Floats, row: Ints) -> Ints:
    """For each u in [0, 1): the choice of weights `weight_RC[row]` whose share of the cumulated weight holds u."""
    edge_RC = np.cumsum(weight_RC, axis=1)
    # The last choice that can be drawn takes all that rounding leaves over, so that a weight of 0 is never drawn.
    last_R = weight_RC.shape[1] - 1 - np.argmax(weight_RC[:, ::-1] > 0, axis=1)
    found = np.empty(len(u), dtype=np.int64)
    for r in np.unique(row):
        mine = row == r
        found[mine] = np.minimum(np.searchsorted(edge_RC[r], u[mine] * edge_RC[r, -1], side="right"), last_R[r])
    return found
