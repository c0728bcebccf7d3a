"""`demo:` names in a configuration → the files they stand for, made when they aren't there.

model: demo:tiny                   the model that `hbo demo --build-tiny` builds
path: demo:tiny/math               a dataset of the mixture that goes with it: general, math, finance or medical
path: demo:multitask/math          the same of the demo itself, of fewer rows
path: demo:multilingual/swahili    a dataset of the multilingual setup
path: demo:known/shuffled          a dataset that was altered, so that it is known what a balancer should do with it
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hbo.config import RunConfig
from hbo.config.data import DatasetConfig
from hbo.demo.corpora import DEMO, TINY, Domains, datasets_folder, write_datasets
from hbo.demo.known import KNOWN, known_folder, write_known
from hbo.demo.multilingual import DEMO_LANGUAGES, languages_folder, write_languages
from hbo.errors import ConfigError, ModelError
from hbo.progress import Track, silent

_PREFIX = "demo:"
_MODEL = "demo:tiny"


@dataclass(frozen=True)
class Family:
    """Datasets that are written together."""

    rows: dict[str, int]
    """Name behind the `/` → rows."""
    folder: Callable[[], Path]
    """Where their files lie, or will."""
    write: Callable[..., Path]
    """The folder, made unless it is there; takes `track`."""


def _corpora(domains: Domains) -> Family:
    rows = {domain: sum(part.rows for part in parts) for domain, parts in domains.items()}
    return Family(rows, partial(datasets_folder, domains), partial(write_datasets, domains))


_FAMILIES = {
    _MODEL: _corpora(TINY),
    "demo:multitask": _corpora(DEMO),
    "demo:multilingual": Family(
        {name: language.rows for name, language in DEMO_LANGUAGES.items()}, languages_folder, write_languages
    ),
    "demo:known": Family({name: altered.count for name, altered in KNOWN.items()}, known_folder, write_known),
}
"""What stands before the `/` of a name → its datasets."""
_ROWS = {f"{family}/{name}": rows for family, each in _FAMILIES.items() for name, rows in each.rows.items()}


def fill_in(config: RunConfig, *, track: Track = silent) -> RunConfig:
    """`config` with a path in the place of every `demo:` name.

    The model is built in a process of its own, so that it comes out the same whatever runs here.

    Raises:
        ConfigError: There is no such name.
        DataError: The corpora can't be fetched or written.
        ModelError: The model can't be built, or not here.
    """
    _check(config)
    folders = {family: _FAMILIES[family].write(track=track) for family in _families(config)}
    files = {
        f"{family}/{name}": str(folder / f"{name}.jsonl")
        for family, folder in folders.items()
        for name in _FAMILIES[family].rows
    }
    config = _with_datasets(config, {name: _filled(entry, files) for name, entry in config.mixture.datasets.items()})
    if _uses_model(config):
        scorer = config.difficulty.model
        difficulty = config.difficulty.model_copy(update={"model": scorer and model_path(scorer)})
        config = config.model_copy(update={"model": model_path(config.model), "difficulty": difficulty})
    return config


def is_built(config: RunConfig) -> bool:
    """Whether `fill_in` would find all it needs on this machine."""
    has_datasets = all(family in _FAMILIES and _FAMILIES[family].folder().is_dir() for family in _families(config))
    return has_datasets and (not _uses_model(config) or _tiny_folder().is_dir())


def with_sizes(config: RunConfig) -> RunConfig:
    """`config` with the number of rows of every dataset made of `demo:` ones, none of which is fetched or written.

    Raises:
        ConfigError: There is no such name.
    """
    _check(config)
    datasets = {}
    for name, entry in config.mixture.datasets.items():
        if all(source.path in _ROWS and not source.where for source in entry.sources):
            most = sum(_ROWS[source.path] for source in entry.sources)
            entry = entry.model_copy(update={"max_rows": min(most, entry.max_rows or most)})
        datasets[name] = entry
    return _with_datasets(config, datasets)


def model_path(name: str) -> str:
    """The folder of `demo:tiny`, built when it isn't there; any other name as it is.

    Raises:
        ModelError: The model can't be built, or not here.
    """
    if name != _MODEL:
        return name
    folder = _tiny_folder()
    if not folder.is_dir():
        if "RANK" in os.environ:
            raise ModelError(f"model '{_MODEL}' isn't built yet; run `hbo demo --build-tiny` first, in one process")
        done = subprocess.run([sys.executable, "-m", "hbo", "demo", "--build-tiny"], stdout=subprocess.DEVNULL)
        if done.returncode or not folder.is_dir():
            raise ModelError(f"model '{_MODEL}' couldn't be built; run `hbo demo --build-tiny` to see why")
    return str(folder)


def _tiny_folder() -> Path:
    from hbo.demo.tiny import tiny_folder  # which needs torch

    return tiny_folder()


def _check(config: RunConfig) -> None:
    for model in (config.model, config.difficulty.model or ""):
        if model.startswith(_PREFIX) and model != _MODEL:
            raise ConfigError(f"model '{model}' is unknown; the demo has one of its own, {_MODEL}")
    for name, path in _paths(config):
        if path not in _ROWS:
            raise ConfigError(f"dataset '{name}': '{path}' is unknown; choose one of {', '.join(_ROWS)}")


def _paths(config: RunConfig) -> Iterator[tuple[str, str]]:
    """The `demo:` names of datasets, each with the dataset of the mixture that it is for."""
    for name, entry in config.mixture.datasets.items():
        yield from ((name, source.path) for source in entry.sources if source.path.startswith(_PREFIX))


def _families(config: RunConfig) -> list[str]:
    return sorted({path.rpartition("/")[0] for _, path in _paths(config)})


def _uses_model(config: RunConfig) -> bool:
    return _MODEL in (config.model, config.difficulty.model)


def _filled(entry: DatasetConfig, files: dict[str, str]) -> DatasetConfig:
    also = [source.model_copy(update={"path": files.get(source.path, source.path)}) for source in entry.also]
    return entry.model_copy(update={"path": files.get(entry.path, entry.path), "also": also})


def _with_datasets(config: RunConfig, datasets: dict[str, Any]) -> RunConfig:
    return config.model_copy(update={"mixture": config.mixture.model_copy(update={"datasets": datasets})})
