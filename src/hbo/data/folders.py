"""What folders say of the rows in them, beside the rows: their splits, the files of each, and columns.

`datasets` and the Hub put a README, infos or the state of `save_to_disk` there; names of files tell splits; names of
folders may give columns, as Spark, pandas and Hive lay tables out (`lang=de/…`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from datasets.data_files import sanitize_patterns
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub.repocard import metadata_load

from hbo.errors import DataError
from hbo.text import first_line, nearest

Value = str | int | None
"""What a folder's name gives to a column."""

_T = TypeVar("_T")
_PART = re.compile(r"([^=]+)=(.*)")
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NULL = "__HIVE_DEFAULT_PARTITION__"

METADATA = {
    "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json",
    "dataset-metadata.json", "croissant.json",
}  # fmt: skip
"""Files of JSON that describe a dataset and hold no rows."""


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote a `Dataset` into `folder`."""
    return "_data_files" in _json(folder / "state.json")


def saved_splits(folder: Path) -> list[str]:
    """The splits of a `DatasetDict` that was saved in `folder`; none if none was."""
    found = _json(folder / "dataset_dict.json").get("splits")
    return [str(name) for name in found] if isinstance(found, list) else []


def is_stale(file: Path) -> bool:
    """Whether an Arrow file is none of the saved dataset's, but left over from work with it (`cache-….arrow`)."""
    if file.suffix != ".arrow":
        return False
    named = _json(file.parent / "state.json").get("_data_files")
    return isinstance(named, list) and file.name not in {str(each.get("filename")) for each in named}


def card_patterns(dataset: str, folder: Path, name: str | None) -> dict[str, list[str]]:
    """Split → patterns of its files, as the README of a cloned repository gives them; nothing if it gives none.

    `name` chooses the configuration; None is the default one.

    Raises:
        DataError: There is no such configuration, or several and none is the default.
    """
    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    try:
        configs = MetadataConfigs.from_dataset_card_data(metadata_load(readme) or {})
        default = configs.get_default_config_name()
    except Exception as error:  # whatever its YAML holds
        raise DataError(
            f"dataset '{dataset}': the configs in {readme} can't be read ({first_line(error)[:200]}); choose the files "
            "with data_files"
        ) from None
    if not configs:
        return {}
    chosen = name or default
    if chosen not in configs:
        wrong = f"has no configuration '{name}'" if name else "has several configurations"
        raise DataError(f"dataset '{dataset}': {folder} {wrong}; choose one with name: {', '.join(configs)}")
    config: dict[str, Any] = configs[chosen]
    below = f"{config['data_dir'].strip('/')}/" if config.get("data_dir") else ""
    patterns = sanitize_patterns(config.get("data_files") or ["**/*"])
    return {split: [below + pattern for pattern in some] for split, some in patterns.items()}


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


SPLITS = {"train": "train", "test": "test", "eval": "test"} | dict.fromkeys(
    ("validation", "valid", "val", "dev"), "validation"
)
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


def one_split(dataset: str, folder: Path, found: Mapping[str, _T], split: str) -> _T:
    """What belongs to the split; a DataError that names the splits if there is no such."""
    name = next((name for name in (split, SPLITS.get(split)) if name in found), None)
    if name is None:
        raise DataError(
            f"dataset '{dataset}': {folder} has no split '{split}'{nearest(split, found)}; choose one with split: "
            f"{', '.join(found)}"
        )
    return found[name]


def partition_columns(files: Sequence[Path]) -> list[dict[str, Value]]:
    """For each file the columns that the folders right above it name; a column of whole numbers only holds numbers.

    Example:
        >>> partition_columns([Path("t/year=2024/lang=de/0.parquet")])
        [{'year': 2024, 'lang': 'de'}]
    """
    texts = [_texts(file) for file in files]
    values: dict[str, set[str]] = {}
    for each in texts:
        for name, text in each.items():
            values.setdefault(name, set()).add(text)
    whole = {name for name, found in values.items() if all(map(_WHOLE.fullmatch, found - {_NULL}))}
    return [{name: _value(text, name in whole) for name, text in each.items()} for each in texts]


def _texts(file: Path) -> dict[str, str]:
    found = takewhile(bool, map(_PART.fullmatch, reversed(file.parts[:-1])))
    return dict(reversed([(unquote(part[1]), unquote(part[2])) for part in found if part]))


def _value(text: str, is_whole: bool) -> Value:
    if text == _NULL:
        return None
    return int(text) if is_whole else text
