"""The examples in a mixture's packed rows, numbered through all rows in order: what rewards are measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray

from hbo.arrays import Ints

PACKED = "seq_lengths"
"""The column, called as TRL has it, that holds how long each example of a packed row is."""

_BATCH = 1000


def example_counts(rows: Dataset) -> NDArray[np.int32] | None:
    """How many examples each row (N,) holds; None when rows are not packed."""
    if PACKED not in rows.column_names:
        return None
    tables = rows.select_columns([PACKED]).with_format("arrow").iter(_BATCH)
    parts = [pc.list_value_length(table[PACKED]).to_numpy() for table in tables]
    return np.concatenate([np.empty(0, np.int32), *parts]).astype(np.int32)


class PackedExamples(Sequence[Mapping[str, Any]]):
    """Examples as mappings with `input_ids`, `labels` and, if the rows have it, `hbo_reference`.

    Rows stay where they are; one is read when one of its examples is asked for.

    Args:
        rows: Packed rows, with `input_ids`, `labels` and `seq_lengths`.

    Example:
        >>> row = {"input_ids": [5, 6, 7], "labels": [5, 6, 7], "seq_lengths": [1, 2]}
        >>> PackedExamples(Dataset.from_list([row]))[1]["input_ids"].tolist()
        [6, 7]
    """

    def __init__(self, rows: Dataset) -> None:
        counts = example_counts(rows)
        assert counts is not None
        wanted = ["input_ids", "labels", PACKED, "hbo_reference"]
        self.rows = rows.select_columns([name for name in wanted if name in rows.column_names]).with_format("numpy")
        self.start_N = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])  # first example of each row

    def __len__(self) -> int:
        return int(self.start_N[-1])

    def __getitem__(self, number: Any) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(number)
        row, part = self.place(int(number))
        found = self.rows[row]
        end = int(found[PACKED][: part + 1].sum())
        begin = end - int(found[PACKED][part])
        example = {name: found[name][begin:end] for name in ("input_ids", "labels")}
        if "hbo_reference" in found:
            example["hbo_reference"] = found["hbo_reference"][part]
        return example

    def place(self, number: int) -> tuple[int, int]:
        """The row of an example, and its place in that row, from 0."""
        row = int(np.searchsorted(self.start_N, number, side="right")) - 1
        return row, number - int(self.start_N[row])

    def of_rows(self, rows: Ints) -> Ints:
        """The numbers of all examples in these rows."""
        first, count = self.start_N[rows], self.start_N[rows + 1] - self.start_N[rows]
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        numbers: Ints = np.repeat(first, count) + within
        return numbers
