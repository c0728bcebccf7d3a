"""Which rows belong to which group: dataset × difficulty level.

K datasets, L levels, N rows. A group is one (dataset, level); groups are numbered dataset · L + level.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hbo.arrays import Floats, Ints, Narrow
from hbo.errors import DataError

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Groups:
    """The rows of every group, and how long each row is.

    Attributes:
        datasets: Names of the K datasets.
        levels: L, the levels of every dataset; level 0 is the easiest.
        order_N: Row numbers, group after group, ascending inside each.
        offsets: (K·L + 1,), where each group begins in `order_N`.
        length_N: Tokens of each row; the rows of a step are sorted by it. None: they stay in the order drawn.
        examples_C: Examples of each group (K·L,) when rows are packed; None: every row is one example.
    """

    datasets: tuple[str, ...]
    levels: int
    order_N: Narrow
    offsets: Ints
    length_N: Narrow | None = None
    examples_C: Ints | None = None

    @classmethod
    def from_columns(
        cls,
        dataset_N: Sequence[str],
        level_N: ArrayLike,
        *,
        datasets: Sequence[str] | None = None,
        levels: int | None = None,
        length_N: ArrayLike | None = None,
        examples_N: ArrayLike | None = None,
    ) -> Groups:
        """The groups, from a column of datasets and one of levels.

        Args:
            dataset_N: Name of each row's dataset.
            level_N: Level of each row, from 0.
            datasets: Order of the names; absent: as they first appear.
            levels: L; absent: the highest level plus one.
            length_N: Tokens of each row.
            examples_N: Examples packed in each row; absent: one.

        Raises:
            DataError: There are no rows; a level is negative, too high or not a whole number; a row's dataset is not in
                `datasets`; or the columns differ in length.

        Example:
            >>> Groups.from_columns(["a", "a", "b"], [0, 1, 0]).sizes_KL.tolist()
            [[1, 1], [1, 0]]
        """
        names = tuple(datasets) if datasets is not None else tuple(dict.fromkeys(dataset_N))
        number = {name: k for k, name in enumerate(names)}
        try:
            code_N = np.fromiter((number[name] for name in dataset_N), dtype=np.int64, count=len(dataset_N))
        except KeyError as error:
            raise DataError(f"a row belongs to dataset {error.args[0]!r}, which the mixture does not name") from None
        level_N = np.asarray(level_N)
        return cls.from_codes(names, code_N, level_N, levels=levels, length_N=length_N, examples_N=examples_N)

    @classmethod
    def from_codes(
        cls,
        datasets: Sequence[str],
        code_N: NDArray[Any],
        level_N: NDArray[Any],
        *,
        levels: int | None = None,
        length_N: ArrayLike | None = None,
        examples_N: ArrayLike | None = None,
    ) -> Groups:
        """As `from_columns`, with each row's dataset as its number in `datasets`; small integer types save memory.

        Raises:
            DataError: There is no row, or a level is negative or too high.
        """
        if len(level_N) == 0:
            raise DataError("the mixture has no rows; add a dataset with at least one")
        if level_N.dtype.kind not in "iuf" or (level_N.dtype.kind == "f" and (level_N % 1 != 0).any()):
            raise DataError("column hbo_level holds values that aren't whole numbers; levels are 0, 1, 2 and so on")
        if not len(code_N) == len(level_N) == (len(level_N) if length_N is None else len(np.asarray(length_N))):
            raise DataError(
                f"{len(level_N)} rows have a level, but not the same number a dataset and a length; "
                "give every row all of them"
            )
        low, high = int(level_N.min()), int(level_N.max())
        count = high + 1 if levels is None else levels
        if low < 0 or high >= count:
            raise DataError(f"column hbo_level holds {low} to {high}, but levels are 0 to {count - 1}")
        order_N, offsets = _in_groups(code_N, level_N, len(datasets), count)
        length = None if length_N is None else np.asarray(length_N)
        examples = None if examples_N is None else _sums(np.asarray(examples_N), order_N, offsets)
        return cls(tuple(datasets), count, order_N, offsets, length, examples)  # type: ignore[arg-type]

    @property
    def sizes_KL(self) -> Ints:
        """Rows of every group."""
        return np.diff(self.offsets).reshape(len(self.datasets), self.levels)

    @property
    def sizes_K(self) -> Ints:
        """Rows of every dataset."""
        sizes: Ints = self.sizes_KL.sum(axis=1)
        return sizes

    @property
    def examples_KL(self) -> Ints:
        """Examples of every group; the same as its rows, unless rows are packed."""
        return self.sizes_KL if self.examples_C is None else self.examples_C.reshape(self.sizes_KL.shape)

    @property
    def per_row_KL(self) -> Floats | None:
        """Examples per row of every group, on average; None when rows are not packed."""
        return None if self.examples_C is None else self.examples_KL / np.maximum(self.sizes_KL, 1)

    @cached_property
    def cell_N(self) -> Narrow:
        """The group of each row; 0 for a row that was set aside."""
        cells = np.arange(self.sizes_KL.size, dtype=np.int32)
        cell_N = np.zeros(int(self.order_N.max()) + 1, dtype=np.int32)
        cell_N[self.order_N] = np.repeat(cells, self.sizes_KL.ravel())
        return cell_N

    @cached_property
    def digest(self) -> str:
        """A hash of which row stands in which group."""
        found = hashlib.sha256(json.dumps([self.datasets, self.offsets.tolist()]).encode())
        found.update(np.ascontiguousarray(self.order_N).data)
        return found.hexdigest()

    def without(self, rows: ArrayLike) -> Groups:
        """The groups without these rows, which are then never drawn; the other rows keep their numbers.

        Raises:
            DataError: Rows are packed, and an example inside a packed row can't be set aside alone.
        """
        if self.examples_C is not None:
            raise DataError("rows can't be set aside from packed ones; set packing: false")
        keeps = np.ones(len(self.order_N), dtype=bool)
        keeps[np.asarray(rows, dtype=np.int64)] = False
        stays_N = keeps[self.order_N]
        offsets = np.concatenate([[0], np.cumsum(stays_N)])[self.offsets].astype(np.int64)
        return replace(self, order_N=self.order_N[stays_N], offsets=offsets)

    def rows(self, dataset: int, level: int) -> Ints:
        """Row numbers of one group."""
        cell = dataset * self.levels + level
        return self.order_N[self.offsets[cell] : self.offsets[cell + 1]].astype(np.int64)


def rows_of(groups: Groups, dataset: int) -> Ints:
    """Row numbers of one dataset, level after level.

    Example:
        >>> rows_of(Groups.from_columns(["a", "b", "a"], [1, 0, 0]), 0).tolist()
        [2, 0]
    """
    start, stop = groups.offsets[[dataset * groups.levels, (dataset + 1) * groups.levels]]
    return groups.order_N[start:stop].astype(np.int64)


def _in_groups(code_N: NDArray[Any], level_N: NDArray[Any], datasets: int, levels: int) -> tuple[Narrow, Ints]:
    """Row numbers, group after group, and where each group begins: a counting sort.

    Chunk by chunk, so that no array of all rows is made but the result.
    """

    def cells(chunk: slice) -> Ints:
        return code_N[chunk].astype(np.int64) * levels + level_N[chunk].astype(np.int64)

    chunks = [slice(at, at + _CHUNK) for at in range(0, len(level_N), _CHUNK)]
    sizes = np.zeros(datasets * levels, dtype=np.int64)
    for chunk in chunks:
        sizes += np.bincount(cells(chunk), minlength=len(sizes))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    order_N: Narrow = np.empty(len(level_N), dtype=np.int32 if len(level_N) < 2**31 else np.int64)
    free = offsets[:-1].copy()  # where each group's next row goes
    for chunk in chunks:
        cell = cells(chunk)
        order = np.argsort(cell, kind="stable")
        found, first = np.unique(cell[order], return_index=True)
        for c, rows in zip(found.tolist(), np.split(order, first[1:]), strict=True):
            order_N[free[c] : free[c] + len(rows)] = rows + chunk.start
            free[c] += len(rows)
    return order_N, offsets


def _sums(value_N: NDArray[Any], order_N: Narrow, offsets: Ints) -> Ints:
    # Group by group, so that no copy of all rows is made.
    return np.array([value_N[order_N[a:b]].sum() for a, b in pairwise(offsets)], dtype=np.int64)


def levels_by_score(score_N: ArrayLike, levels: int, tie_N: ArrayLike | None = None) -> Ints:
    """Level of each row: rows sorted by score and cut in equal parts, 0 the lowest scores (the easiest).

    Sizes differ by at most one, every row gets a level, NaN sorts last, equal scores keep the order of `tie_N`
    (absent: of the rows).

    Raises:
        DataError: There are fewer rows than levels.

    Example:
        >>> levels_by_score([0.3, 0.1, 0.2, 0.9], 2).tolist()
        [1, 0, 0, 1]
    """
    score = np.asarray(score_N, dtype=np.float64)
    count = len(score)
    if count < levels:
        raise DataError(f"{count} rows can't be cut into {levels} groups; ask for at most {count} or add rows")
    tie = np.arange(count) if tie_N is None else np.asarray(tie_N)
    rank_N = np.empty(count, dtype=np.int64)
    rank_N[np.lexsort((tie, score, np.isnan(score)))] = np.arange(count)
    return rank_N * levels // count
