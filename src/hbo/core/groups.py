"""Which rows belong to which group: dataset × difficulty level.

K datasets, L levels, N rows. A group is one (dataset, level); groups are numbered dataset · L + level.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hbo.errors import DataError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Groups:
    """The rows of every group, and how long each row is.

    Attributes:
        datasets: Names of the K datasets.
        levels: L, the levels of every dataset; level 0 is the easiest.
        order_N: Row numbers, group after group, ascending inside each.
        offsets: (K·L + 1,), where each group begins in `order_N`.
        length_N: Tokens of each row, by which a step's rows are sorted; None leaves them as drawn.
    """

    datasets: tuple[str, ...]
    levels: int
    order_N: Ints
    offsets: Ints
    length_N: Ints | None = None

    @classmethod
    def from_columns(
        cls,
        dataset_N: Sequence[str],
        level_N: ArrayLike,
        *,
        datasets: Sequence[str] | None = None,
        levels: int | None = None,
        length_N: ArrayLike | None = None,
    ) -> Groups:
        """The groups that two columns describe.

        Args:
            dataset_N: Name of each row's dataset.
            level_N: Level of each row, from 0.
            datasets: Order of the names; absent: as they first appear.
            levels: L; absent: the highest level plus one.
            length_N: Tokens of each row.

        Raises:
            DataError: There is no row, a level is negative or too high, or a row's dataset is not among `datasets`.

        Example:
            >>> Groups.from_columns(["a", "a", "b"], [0, 1, 0]).sizes_KL.tolist()
            [[1, 1], [1, 0]]
        """
        level = np.asarray(level_N, dtype=np.int64)
        if len(level) == 0:
            raise DataError("the mixture has no rows; add a dataset with at least one")
        names = tuple(datasets) if datasets is not None else tuple(dict.fromkeys(dataset_N))
        count = int(level.max()) + 1 if levels is None else levels
        if level.min() < 0 or level.max() >= count:
            raise DataError(f"column hbo_level holds {level.min()} to {level.max()}, but levels are 0 to {count - 1}")
        number = {name: k for k, name in enumerate(names)}
        try:
            dataset = np.fromiter((number[name] for name in dataset_N), dtype=np.int64, count=len(level))
        except KeyError as error:
            raise DataError(f"a row belongs to dataset {error.args[0]!r}, which the mixture does not name") from None
        cell_N = dataset * count + level
        sizes = np.bincount(cell_N, minlength=len(names) * count)
        return cls(
            datasets=names,
            levels=count,
            order_N=np.argsort(cell_N, kind="stable").astype(np.int64),
            offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            length_N=None if length_N is None else np.asarray(length_N, dtype=np.int64),
        )

    @property
    def sizes_KL(self) -> Ints:
        """Rows of every group."""
        return np.diff(self.offsets).reshape(len(self.datasets), self.levels)

    @property
    def sizes_K(self) -> Ints:
        """Rows of every dataset."""
        sizes: Ints = self.sizes_KL.sum(axis=1)
        return sizes

    def digest(self) -> str:
        """A hash of which row stands in which group."""
        content = [self.datasets, self.offsets.tolist()]
        return hashlib.sha256(json.dumps(content).encode() + self.order_N.tobytes()).hexdigest()

    def rows(self, dataset: int, level: int) -> Ints:
        """Row numbers of one group."""
        cell = dataset * self.levels + level
        return self.order_N[self.offsets[cell] : self.offsets[cell + 1]]


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
