"""What scoring must know of all rows before it begins, read in one pass. Letters: N rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from datasets import Dataset

from hbo.data.tokens import IGNORED, has_instruction

_BATCH = 1000


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
        """The scan of canonical rows with `input_ids` and `labels`.

        Raises:
            Nothing.
        """
        lengths, targets, instructed, largest = [], [], [], -1
        columns = data.select_columns(["input_ids", "labels", "prompt"])
        for table in columns.with_format("arrow").iter(_BATCH):
            ids = table["input_ids"].combine_chunks()
            largest = max(largest, int(ids.flatten().to_numpy().max(initial=-1)))
            length, target = _counts(table["labels"].combine_chunks())
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


def _counts(labels: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (N,) and targets (N,) of each row."""
    length = labels.value_lengths().to_numpy().astype(np.int64)
    end = length.cumsum()
    is_target = labels.flatten().to_numpy() != IGNORED
    is_target[(end - length)[length > 0]] = False
    before = np.concatenate([[0], is_target.cumsum()])
    return length, before[end] - before[end - length]
