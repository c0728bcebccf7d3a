"""What a trainer's rows say of themselves, whatever kind of dataset they are: dataset, level, length."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset
from datasets import IterableDataset as Stream
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from hbo.errors import DataError
from hbo.scoring.batches import lengths

LENGTH = "hbo_length"
"""Column with the tokens of each row, where the table has no tokens itself."""

_LAYOUTS: tuple[dict[str, int], ...] = (
    {"input_ids": 1},
    {"prompt_ids": 3, "chosen_ids": 1, "rejected_ids": 1, "reference_ids": 1},  # TPO
    {"prompt_ids": 2, "chosen_ids": 1, "rejected_ids": 1},  # DPO
    {"prompt_ids": 2, "completion_ids": 1, "KL_completion_ids": 1},  # KTO
    {"prompt_ids": 1, "completion_ids": 1},
    {"chosen_ids": 1, "rejected_ids": 1},  # Reward
    {"chosen_input_ids": 1, "rejected_input_ids": 1},  # CPO, ORPO
)
"""Columns of tokens, and how often a pass over a row runs each; the first layout whose columns are all there holds."""
_BATCH = 1000


def row_lengths(rows: Dataset) -> NDArray[np.int32] | None:
    """The tokens (N,) that a pass over each row takes; None when the rows aren't of a layout that is known.

    Example:
        >>> rows = Dataset.from_list([{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]}])
        >>> row_lengths(rows).tolist()
        [7]
    """
    names = set(rows.column_names)
    if LENGTH in names:
        return np.asarray(rows.with_format("numpy")[LENGTH][:], dtype=np.int32)
    layout = next((layout for layout in _LAYOUTS if layout.keys() <= names), None)
    if layout is None:
        return None
    if layout.keys() == {"input_ids"}:
        return lengths(rows)
    tables = rows.select_columns(list(layout)).with_format("arrow").iter(_BATCH)
    parts = [sum(n * pc.list_value_length(table[name]).to_numpy() for name, n in layout.items()) for table in tables]
    return np.concatenate([np.empty(0, np.int32), *parts]).astype(np.int32)


def labelled(rows: Any) -> Dataset:
    """A table with a row for each of a trainer's rows: these themselves, or what the items of a torch dataset say.

    Of a torch dataset every item is read, once: `hbo_dataset`, `hbo_level` if the first has it, and how many
    `input_ids` there are if all have them.

    Raises:
        DataError: The rows are a stream, or none, or an item doesn't say which dataset it belongs to.
    """
    if isinstance(rows, Dataset):
        return rows
    kind = type(rows).__name__
    if isinstance(rows, IterableDataset | Stream) or not isinstance(rows, Sized):
        raise DataError(
            f"HBO draws rows by their number, which isn't possible with {kind}; load them with streaming=False, or "
            "store the stream with datasets.Dataset.from_generator first"
        )
    if not len(rows):
        raise DataError(f"the training rows ({kind}) are empty; give the trainer some")
    return Dataset.from_dict(_columns(rows, kind))


def _columns(rows: Any, kind: str) -> dict[str, list[Any]]:
    names, levels, counts = list[str](), list[int](), list[int]()
    wanted = ["hbo_dataset"]
    for number in range(len(rows)):
        item = rows[number]
        if not number and isinstance(item, Mapping) and "hbo_level" in item:
            wanted.append("hbo_level")
        missing = [name for name in wanted if not isinstance(item, Mapping) or name not in item]
        if missing:
            what = f"has no entry {missing[0]}" if isinstance(item, Mapping) else f"is a {type(item).__name__}"
            raise DataError(
                f"row {number} of the training rows ({kind}) {what}; let each item be a mapping that gives the name of "
                "its dataset under hbo_dataset and, if there are groups, its level (0, 1, …) under hbo_level"
            )
        names.append(item["hbo_dataset"])
        levels += [int(item["hbo_level"])] if "hbo_level" in wanted else []
        counts += [len(item["input_ids"])] if "input_ids" in item else []
    found: dict[str, list[Any]] = {"hbo_dataset": names}
    if "hbo_level" in wanted:
        found["hbo_level"] = levels
    if len(counts) == len(names):
        found[LENGTH] = counts
    return found
