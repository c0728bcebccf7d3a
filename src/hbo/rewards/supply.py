"""What datasets still have to give: rows of their own, and how often these may come in the rest of the run.

**Copies.** One dataset under two names is one dataset, and asks for one share. S_ij says which part of i's rows stand
in j too (S_ii = 1). Datasets that share rows are measured together, and divide what they get:

    R_i ← (Σ_j S_ij R_j / Σ_j S_ij) / Σ_j S_ij

Copies are rows of the same tokens; rows that say the same in other words are not seen.

**Repeats.** A row is worth nearly as much the second to fourth time as the first, and then soon nothing (Muennighoff et
al. 2023, "Scaling Data-Constrained Language Models", arXiv 2305.16264). So a dataset is planned to be gone through four
times at most, or half as often again as the whole mixture if a run is long; rows of two datasets count once. The limit
is on shares: what is left of a dataset is spread over the rest of the run, and not used up early.

Letters: N rows, K datasets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hbo.arrays import Floats, Ints
from hbo.core.groups import Groups, rows_of
from hbo.core.prior import ceiled
from hbo.scoring.batches import TokenRows
from hbo.scoring.copies import token_hashes

_PASSES = 4.0
_OF_ALL = 1.5  # of the passes over the whole mixture
_NOTHING = 1e-6  # of a share: a reward of 0 would count as one that couldn't be measured, and leave the share as it is
_CHUNK = 100_000


@dataclass(frozen=True)
class Supply:
    """What training has to draw from.

    Attributes:
        rows_K: Rows of each dataset.
        shared_KK: Which part of dataset i's rows stand in dataset j; 1 where i = j.
        drawn_K: Rows that training has taken of each.
        to_come: Rows that it will still take.
    """

    rows_K: Ints
    shared_KK: Floats
    drawn_K: Ints
    to_come: int

    def divided(self, reward_K: Floats) -> Floats:
        """What is left of these rewards where datasets share rows.

        Example: the second dataset stands in the mixture twice.
            >>> shared = np.array([[1.0, 0, 0], [0, 1, 1], [0, 1, 1]])
            >>> supply = Supply(np.array([9, 9, 9]), shared, np.array([0, 0, 0]), to_come=0)
            >>> supply.divided(np.array([3.0, 1.0, 3.0])).tolist()
            [3.0, 1.0, 1.0]
        """
        divided_K: Floats = self.shared_KK @ reward_K / self._holders_K**2
        return divided_K

    def limited(self, share_K: Floats) -> Floats:
        """These shares, none above what its dataset can still give; the others get the rest, in proportion.

        Example: of 30 rows, of which 20 were taken, 100 may still come.
            >>> supply = Supply(np.array([1000, 30]), np.eye(2), np.array([20, 20]), to_come=400)
            >>> supply.limited(np.array([0.5, 0.5])).tolist()
            [0.75, 0.25]
        """
        in_all = int(self.drawn_K.sum()) + self.to_come
        share_K = np.asarray(share_K / share_K.sum())
        if not in_all:
            return share_K
        own_K, drawn_K = self.rows_K / self._holders_K, self.drawn_K @ self.shared_KK / self._holders_K
        passes = max(_PASSES, _OF_ALL * in_all / own_K.sum())
        if self.to_come > 0:
            most_K = np.maximum(passes * own_K - drawn_K, 0.0) / self.to_come
        else:  # the run is over; what would have been right for all of it
            most_K = passes * own_K / in_all
        share_K = ceiled(share_K, most_K)
        share_K = np.maximum(share_K / max(share_K.sum(), _NOTHING), _NOTHING)
        limited_K: Floats = share_K / share_K.sum()
        return limited_K

    @property
    def _holders_K(self) -> Floats:
        holders_K: Floats = self.shared_KK.sum(axis=1)
        return holders_K


def shared_rows(rows: TokenRows, groups: Groups) -> Floats:
    """Which part of dataset i's rows stand in dataset j too (K, K), by their tokens; 1 where i = j.

    Example:
        >>> rows = [{"input_ids": [1, 2]}, {"input_ids": [3]}, {"input_ids": [1, 2]}]
        >>> shared_rows(rows, Groups.from_columns(["a", "a", "b"], [0, 0, 0])).tolist()
        [[1.0, 0.5], [1.0, 1.0]]
    """
    hash_N = token_hashes(rows)
    hash_K = [np.unique(hash_N[rows_of(groups, k)]) for k in range(len(groups.datasets))]
    hash_U, holders_U = np.unique(np.concatenate(hash_K), return_counts=True)
    copied = hash_U[holders_U > 1]
    shared_KK: Floats = np.zeros((len(hash_K), len(hash_K)))
    for start in range(0, len(copied), _CHUNK):
        part = copied[start : start + _CHUNK]
        is_in_KU = np.stack([np.isin(part, own) for own in hash_K]).astype(np.float64)
        shared_KK += is_in_KU @ is_in_KU.T
    shared_KK /= np.array([[max(1, len(own))] for own in hash_K])
    np.fill_diagonal(shared_KK, 1.0)
    return shared_KK
