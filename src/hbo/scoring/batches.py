"""Rows of any length → padded batches of about the same size.

Letters: B rows of a batch, T tokens of a padded row, N rows of a dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from hbo.data.tokens import IGNORED

TokenRow = tuple[np.ndarray, np.ndarray]
"""A row's token ids (T,) and labels (T,)."""

Read = Callable[[np.ndarray], list[TokenRow]]
"""Row numbers (B,) → these rows."""

TokenRows: TypeAlias = Dataset | Sequence[Mapping[str, Any]]
"""Rows with `input_ids` and `labels`."""

_BATCH = 1000


def reader(rows: TokenRows) -> Read:
    """A way to read the token ids and labels of any rows; of a dataset only these rows come into memory."""
    if not isinstance(rows, Dataset):

        def read_each(rows_B: np.ndarray) -> list[TokenRow]:
            found = (rows[i] for i in rows_B.tolist())
            return [(np.asarray(row["input_ids"]), np.asarray(row["labels"])) for row in found]

        return read_each
    columns = rows.select_columns(["input_ids", "labels"]).with_format("numpy")

    def read(rows_B: np.ndarray) -> list[TokenRow]:
        found = columns[rows_B.tolist()]
        return list(zip(found["input_ids"], found["labels"], strict=True))

    return read


def lengths(rows: TokenRows) -> np.ndarray:
    """The tokens (N,) of each row."""
    if not isinstance(rows, Dataset):
        return np.array([len(row["input_ids"]) for row in rows], dtype=np.int32)
    import pyarrow.compute as pc

    tables = rows.select_columns(["input_ids"]).with_format("arrow").iter(_BATCH)
    parts = [pc.list_value_length(table["input_ids"]).to_numpy() for table in tables]
    return np.concatenate([np.empty(0, np.int32), *parts]).astype(np.int32)


def pack(length_N: np.ndarray, wanted: np.ndarray, token_budget: int) -> Iterator[np.ndarray]:
    """The row numbers of each batch: rows of like length together, and within the budget when padded.

    The longest rows come first, so that a lack of memory shows at once; one that is longer than the budget is a batch
    of its own.

    Args:
        length_N: Tokens of every row.
        wanted: Numbers of the rows to pack.
        token_budget: Padded tokens per batch.

    Example:
        >>> [rows_B.tolist() for rows_B in pack(np.array([3, 9, 4, 1]), np.arange(4), token_budget=8)]
        [[1], [2, 0], [3]]
    """
    order = wanted[np.argsort(-length_N[wanted], kind="stable")]
    at = 0
    while at < len(order):
        size = max(1, token_budget // max(1, int(length_N[order[at]])))
        yield order[at : at + size]
        at += size


def pad(rows: Sequence[TokenRow], pad_token_id: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `labels`, each (B, T), padded on the right."""
    shape = len(rows), max(len(ids) for ids, _ in rows)
    batch = {
        "input_ids": torch.full(shape, pad_token_id),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "labels": torch.full(shape, IGNORED),
    }
    for i, (ids, labels) in enumerate(rows):
        batch["input_ids"][i, : len(ids)] = torch.tensor(ids)
        batch["attention_mask"][i, : len(ids)] = 1
        batch["labels"][i, : len(ids)] = torch.tensor(labels)
    return batch
