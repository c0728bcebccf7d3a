"""What a look at the tokenised rows finds before they cost GPU time: lengths, and rows that stand in them twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xxhash
from datasets import Dataset
from numpy.typing import NDArray

from hbo.arrays import Words
from hbo.data.canonical import EXTRA
from hbo.data.notes import Note

_BATCH = 1000


@dataclass(frozen=True)
class Seen:
    """What was found of one dataset."""

    median: int
    """Tokens of the row in the middle."""
    longest: int
    """Tokens of the longest row."""
    full: float
    """Share of rows that fill `max_length`, nearly all of which were cut."""
    repeats: int
    """Rows to train on that say the same as an earlier one of this dataset."""
    elsewhere: int
    """Rows to train on that stand in another dataset too."""
    leaked: int
    """Held-out rows that are trained on as well, in whatever dataset."""


def inspect_rows(train: Dataset, held_out: Dataset, max_length: int | None) -> dict[str, Seen]:
    """Dataset → what was found. Rows are the same if their messages are, but for space around and case.

    Args:
        train: Rows to train on, tokenised.
        held_out: Held-out rows; may be none.
        max_length: At which rows were cut; None: nowhere.
    """
    name_N, content_N = _contents(train)
    held_name_H, held_content_H = _contents(held_out)
    batches = train.select_columns(["input_ids"]).iter(_BATCH)
    length_N = np.array([len(ids) for batch in batches for ids in batch["input_ids"]])
    first = dict[int, str]()
    pairs = zip(content_N.tolist(), name_N, strict=True)
    shared = {content for content, name in pairs if first.setdefault(content, name) != name}
    shared_N = np.isin(content_N, np.array(list(shared), dtype=np.uint64))
    leaked_H = np.isin(held_content_H, content_N)
    found = {}
    for name in dict.fromkeys(name_N.tolist()):
        mine = name_N == name
        length = length_N[mine]
        found[name] = Seen(
            median=int(np.median(length)),
            longest=int(length.max()),
            full=float((length >= max_length).mean()) if max_length else 0.0,
            repeats=int(mine.sum() - len(np.unique(content_N[mine]))),
            elsewhere=int(shared_N[mine].sum()),
            leaked=int(leaked_H[held_name_H == name].sum()),
        )
    return found


def of_seen(seen: dict[str, Seen]) -> Iterator[Note]:
    """What of it a user should know."""
    for name, each in seen.items():
        if each.leaked:
            yield Note(
                f"dataset '{name}': {each.leaked} held-out rows are trained on as well, so its held-out loss is too "
                "low; remove the repeated rows",
                is_warning=True,
            )
        if each.repeats:
            yield Note(f"dataset '{name}': {each.repeats} rows repeat another of its rows")
        if each.elsewhere:
            yield Note(f"dataset '{name}': {each.elsewhere} rows are in another dataset too")


def _contents(rows: Dataset) -> tuple[NDArray[np.object_], Words]:
    """The dataset (N,) of each row, and a number (N,) that is the same for rows that say the same."""
    names: list[str] = []
    contents: list[int] = []
    if len(rows):
        columns = ["prompt", "completion", "hbo_dataset", *([EXTRA] if EXTRA in rows.column_names else [])]
        for batch in rows.select_columns(columns).iter(_BATCH):
            names += batch["hbo_dataset"]
            extras = batch.get(EXTRA) or [None] * len(batch["prompt"])
            for prompt, completion, extra in zip(batch["prompt"], batch["completion"], extras, strict=True):
                turns = [*prompt, *completion]
                said = [[turn["role"], " ".join((turn["content"] or "").casefold().split())] for turn in turns]
                said += [[EXTRA, extra]] if extra else []
                contents.append(xxhash.xxh3_64_intdigest(json.dumps(said).encode()))
    return np.array(names, dtype=object), np.array(contents, dtype=np.uint64)
