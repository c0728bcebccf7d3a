"""What a user may write for one dataset of the mixture → its checked name, its settings and its sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hbo.data.sources import Source, from_dataset, open_source
from hbo.errors import ConfigError, nearest
from hbo.mixture_config import DatasetConfig, SourceConfig


@dataclass(frozen=True)
class Entry:
    """One dataset of the mixture, not yet read."""

    name: str
    config: DatasetConfig
    sources: list[tuple[SourceConfig, Source]]


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
        return Entry(name, value, [(config, open_source(name, config)) for config in value.sources])
    config = DatasetConfig(path="a datasets.Dataset")
    return Entry(name, config, [(config, from_dataset(name, value))])


def drops_unusable(value: Any) -> bool:
    """Whether an entry says that rows which can't be used are left out."""
    if isinstance(value, DatasetConfig):
        return value.drop_unusable
    return type(value) is dict and value.get("drop_unusable") is True


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
    try:
        return DatasetConfig.model_validate(_with_text(given))
    except ValidationError as error:
        problem = error.errors()[0]
        shown = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"dataset '{name}': `{shown}`: {problem['msg']}") from None


def _with_text(given: Any) -> Any:
    """Paths as text, those of further sources too."""
    if isinstance(given, Path):
        return str(given)
    if isinstance(given, list):
        return [_with_text(value) for value in given]
    if isinstance(given, dict):
        return {key: _with_text(value) if key in ("path", "also") else value for key, value in given.items()}
    return given
