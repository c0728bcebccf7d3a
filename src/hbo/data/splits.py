"""Which of several splits a source is: files by what their names say, and the one that `split` asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from hbo.errors import DataError, nearest

T = TypeVar("T")

SPLITS = {
    "train": "train",
    "test": "test",
    "eval": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}
"""A word in a file's name → the split that it means, as `datasets` has it."""


def split_named(name: str) -> str | None:
    """The split that the name of a file or folder speaks of, or None.

    Example:
        >>> split_named("chat_dev.jsonl.gz"), split_named("chat.jsonl")
        ('validation', None)
    """
    return next((SPLITS[word] for word in re.split(r"[-_.]", name.lower()) if word in SPLITS), None)


def by_split(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each split; those that name none are for training. Folders count where one of them is `train`."""
    within = {file: file.relative_to(folder).parts for file in files}
    folders = any("train" in parts[:-1] for parts in within.values())
    found: dict[str, list[Path]] = {}
    for file, parts in within.items():
        above = [SPLITS[part] for part in parts[:-1] if part in SPLITS] if folders else []
        found.setdefault(split_named(parts[-1]) or next(iter(above), "train"), []).append(file)
    return found


def one_split(dataset: str, folder: Path, found: Mapping[str, T], split: str) -> T:
    """What belongs to the split.

    Raises:
        DataError: There is no such split; those that there are are named.
    """
    name = next((name for name in (split, SPLITS.get(split)) if name in found), None)
    if name is None:
        raise DataError(
            f"dataset '{dataset}': {folder} has no split '{split}'{nearest(split, found)}; choose one with split: "
            f"{', '.join(found)}"
        )
    return found[name]
