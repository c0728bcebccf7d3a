"""What a user may write for one dataset of the mixture → its checked name, its settings and its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hbo.config import DatasetConfig
from hbo.data.sources import Source, from_dataset, open_source
from hbo.errors import ConfigError, nearest


@dataclass(frozen=True)
class Entry:
    """One dataset of the mixture, not yet read."""

    name: str
    config: DatasetConfig
    source: Source


def open_entry(name: Any, value: Any) -> Entry:
    """The entry that `value` stands for: a path, a Hub name, a mapping, a DatasetConfig or a datasets.Dataset.

    Raises:
        ConfigError: The name is no text, or the mapping has a key or value that can't be used.
        DataError: The source isn't there or is of a kind that can't be used.
    """
    name = _checked(name)
    if isinstance(value, str | Path):
        value = {"path": str(value)}
    if isinstance(value, Mapping) and not isinstance(value, dict):
        value = dict(value)
    # A DatasetDict is a dict too; it has splits for keys and must not be read as settings.
    if type(value) is dict:
        value = _config(name, value)
    if isinstance(value, DatasetConfig):
        return Entry(name, value, open_source(name, value))
    return Entry(name, DatasetConfig(path="a datasets.Dataset"), from_dataset(name, value))


def _checked(name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"a dataset is named {name!r}; give each dataset of the mixture a name that is text")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(
            f"the dataset name {name!r} holds an unpaired surrogate; give it a name that is text"
        ) from None
    return name


def _config(name: str, given: dict[Any, Any]) -> DatasetConfig:
    known = list(DatasetConfig.model_fields)
    for key in given:
        if key not in known:
            raise ConfigError(
                f"dataset '{name}': unknown key '{key}'{nearest(str(key), known)}; known keys: {', '.join(known)}"
            )
    given = {key: str(value) if key == "path" and isinstance(value, Path) else value for key, value in given.items()}
    try:
        return DatasetConfig.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        shown = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"dataset '{name}': `{shown}`: {problem['msg']}") from None
