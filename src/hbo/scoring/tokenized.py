"""Whatever `build_mixture` gives → canonical rows with the scorer's own tokens, and what must be known of all of them.

Letters: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from hbo.compat import is_list
from hbo.data.cache import cache_root
from hbo.data.canonical import EXTRA, from_text
from hbo.data.tokens import count_targets, has_instruction, tokenize
from hbo.errors import DataError
from hbo.progress import Track

_BATCH = 1000
_COMPARED = 16  # rows tokenized again to see whether a dataset's tokens are the scorer's
_CANONICAL = ["prompt", "completion", "hbo_dataset", "hbo_row"]
_MORE = [EXTRA, "tools", "chat_template_kwargs"]  # what some tables have as well


def check_mixture(data: Any) -> None:
    """Refuses what is no Dataset with the columns that `build_mixture` gives.

    Raises:
        DataError: It is something else.
    """
    if isinstance(data, DatasetDict | IterableDatasetDict):
        example = "train" if "train" in data else next(iter(data), "train")
        raise DataError(
            f"data has the splits {', '.join(map(repr, data))}, but one dataset is wanted; pass data['{example}']"
        )
    if isinstance(data, IterableDataset):
        raise DataError("data is a streaming dataset, whose rows can't be sorted; load it without streaming=True")
    if not isinstance(data, Dataset):
        raise DataError(f"data is a {type(data).__name__}; pass the datasets.Dataset that build_mixture gives")
    seen = data.column_names
    missing = [name for name in ("hbo_dataset", "hbo_row") if name not in seen]
    if not missing and "text" not in seen:
        missing = [name for name in ("prompt", "completion") if name not in seen]
    if missing:
        raise DataError(
            f"data has no column {' and no column '.join(map(repr, missing))} (columns seen: "
            f"{', '.join(seen) or 'none'}); make it with build_mixture"
        )
    if "prompt" in seen and not is_list(data.features["prompt"]):
        raise DataError("column 'prompt' holds no lists of messages; make the data with build_mixture")


def tokenized(data: Dataset, tokenizer: Any, max_length: int | None, folder: Path | None, track: Track) -> Dataset:
    """The canonical rows of `data` with `input_ids` and `labels` by this tokenizer.

    Tokens that `data` brings are taken as they are, truncation included, if they are this tokenizer's: whether they
    are is tried on a few rows.

    Raises:
        DataError: The chat template refuses a row.
        ModelError: The tokenizer is no fast one.
    """
    if "prompt" not in data.column_names:
        data = from_text(data, folder or cache_root())
    canonical = [*_CANONICAL, *(name for name in _MORE if name in data.column_names)]
    rows = data.select_columns(canonical)
    if {"input_ids", "labels"} <= set(data.column_names):
        sample = np.unique(np.linspace(0, len(data) - 1, min(_COMPARED, len(data))).astype(int))
        whole = tokenize(rows.select(sample), tokenizer, max_length=None, cache_dir=folder)
        if all(_begins(data[int(i)], row) for i, row in zip(sample, whole, strict=True)):
            return data.select_columns([*canonical, "input_ids", "labels"])
    return tokenize(rows, tokenizer, max_length=max_length, cache_dir=folder, track=track)


def _begins(row: dict[str, Any], whole: dict[str, Any]) -> bool:
    count = len(row["input_ids"])
    return all(list(row[name]) == list(whole[name][:count]) for name in ("input_ids", "labels"))


@dataclass(frozen=True)
class Scan:
    """Sizes and kinds of the rows of a tokenized dataset."""

    length_N: np.ndarray
    """Tokens of each row."""
    target_N: np.ndarray
    """Targets of each row; a label on the first token is none, as nothing predicts it."""
    has_instruction_N: np.ndarray
    """Whether anything stands before the response to compare with."""
    largest_id: int

    @classmethod
    def of(cls, data: Dataset) -> Scan:
        """The scan of canonical rows with `input_ids` and `labels`."""
        lengths, targets, instructed, largest = [], [], [], -1
        columns = data.select_columns(["input_ids", "labels", "prompt"])
        for table in columns.with_format("arrow").iter(_BATCH):
            ids = table["input_ids"].combine_chunks()
            largest = max(largest, int(ids.flatten().to_numpy().max(initial=-1)))
            length, target = count_targets(table["labels"].combine_chunks())
            lengths.append(length)
            targets.append(target)
            instructed += [has_instruction(prompt) for prompt in table["prompt"].to_pylist()]
        nothing = np.empty(0, dtype=np.int64)
        return cls(
            np.concatenate([nothing, *lengths]),
            np.concatenate([nothing, *targets]),
            np.array(instructed, dtype=bool),
            largest,
        )
