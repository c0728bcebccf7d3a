"""Which rows have the same tokens: a number for each row that is the same for copies, on every machine."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow.compute as pc
import xxhash
from datasets import Dataset
from numpy.typing import NDArray

from hbo.scoring.batches import TokenRows

_BATCH = 1000

Hashes = NDArray[np.uint64]


def token_hashes(rows: TokenRows) -> Hashes:
    """A number for the tokens of each row (N,), the same for the same tokens.

    Example:
        >>> first, second, third = token_hashes([{"input_ids": [1, 2]}, {"input_ids": [3]}, {"input_ids": [1, 2]}])
        >>> bool(first == third), bool(first == second)
        (True, False)
    """
    if not isinstance(rows, Dataset):
        return np.array([_hash(np.asarray(row["input_ids"])) for row in rows], dtype=np.uint64)
    found: list[int] = []
    for table in rows.select_columns(["input_ids"]).with_format("arrow").iter(_BATCH):
        for part in table["input_ids"].chunks:
            tokens = pc.list_flatten(part).to_numpy(zero_copy_only=False)
            end = np.concatenate([[0], np.cumsum(pc.list_value_length(part).fill_null(0).to_numpy())])
            found += [_hash(tokens[a:b]) for a, b in pairwise(end.tolist())]
    return np.array(found, dtype=np.uint64)


def _hash(tokens: np.ndarray) -> int:
    return xxhash.xxh3_64_intdigest(tokens.astype(np.int64, copy=False).tobytes())
