"""`demo:` names in a configuration → the files they stand for, made when they aren't there.

model: demo:tiny                   the model that `hbo demo --build-tiny` builds
path: demo:tiny/math               a dataset of the mixture that goes with it: general, math, finance or medical
path: demo:multitask/math          the same of the demo itself, of fewer rows
path: demo:multilingual/swahili    a dataset of the multilingual setup
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hbo.config import RunConfig
from hbo.config.data import DatasetConfig
from hbo.demo.corpora import DEMO, TINY, datasets_folder, write_datasets
from hbo.demo.multilingual import LANGUAGES, languages_folder, write_languages
from hbo.errors import ConfigError, ModelError
from hbo.progress import Track, silent

_PREFIX = "demo:"
_MODEL = "demo:tiny"
_LANGUAGES = "demo:multilingual"
_DOMAINS = {_MODEL: TINY, "demo:multitask": DEMO}


def fill_in(config: RunConfig, *, track: Track = silent) -> RunConfig:
    """`config` with a path in the place of every `demo:` name.

    The model is built in a process of its own, so that it comes out the same whatever runs here.

    Raises:
        ConfigError: There is no such name.
        DataError: The corpora can't be fetched or written.
        ModelError: The model can't be built, or not here.
    """
    _check(config)
    datasets = config.mixture.datasets
    if families := _families(config):
        folders = {family: _write(family, track) for family in families}
        files = {
            name: str(folders[family] / f"{file}.jsonl")
            for name in _rows()
            for family, _, file in [name.rpartition("/")]
            if family in folders
        }
        datasets = {name: _filled(entry, files) for name, entry in datasets.items()}
        config = config.model_copy(update={"mixture": config.mixture.model_copy(update={"datasets": datasets})})
    if _uses_model(config):
        model = _tiny()
        scorer = model if config.difficulty.model == _MODEL else config.difficulty.model
        config = config.model_copy(
            update={
                "model": model if config.model == _MODEL else config.model,
                "difficulty": config.difficulty.model_copy(update={"model": scorer}),
            }
        )
    return config


def is_built(config: RunConfig) -> bool:
    """Whether `fill_in` would find all it needs on this machine.

    Raises:
        Nothing.
    """
    from hbo.demo.tiny import folder_of

    folders = {family: datasets_folder(domains) for family, domains in _DOMAINS.items()}
    folders[_LANGUAGES] = languages_folder()
    has_datasets = all(folders[family].is_dir() for family in _families(config))
    return has_datasets and (not _uses_model(config) or folder_of().is_dir())


def with_sizes(config: RunConfig) -> RunConfig:
    """`config` with the number of rows of every dataset made of `demo:` ones, none of which is fetched or written.

    Raises:
        ConfigError: There is no such name.
    """
    _check(config)
    rows = _rows()
    datasets = {}
    for name, entry in config.mixture.datasets.items():
        if all(source.path in rows for source in entry.sources) and not any(source.where for source in entry.sources):
            most = [sum(rows[source.path] for source in entry.sources), *([entry.max_rows] if entry.max_rows else [])]
            entry = entry.model_copy(update={"max_rows": min(most)})
        datasets[name] = entry
    return config.model_copy(update={"mixture": config.mixture.model_copy(update={"datasets": datasets})})


def _check(config: RunConfig) -> None:
    for model in {config.model, config.difficulty.model} - {None}:
        if str(model).startswith(_PREFIX) and model != _MODEL:
            raise ConfigError(f"model '{model}' is unknown; the demo has one of its own, {_MODEL}")
    for name, path in _paths(config):
        if path.startswith(_PREFIX) and path not in _rows():
            raise ConfigError(f"dataset '{name}': '{path}' is unknown; choose one of {', '.join(_rows())}")


def _rows() -> dict[str, int]:
    """Name → rows of every dataset."""
    domains = {
        f"{family}/{domain}": sum(part.rows for part in parts)
        for family, every in _DOMAINS.items()
        for domain, parts in every.items()
    }
    return domains | {f"{_LANGUAGES}/{name}": language.rows for name, language in LANGUAGES.items()}


def _paths(config: RunConfig) -> list[tuple[str, str]]:
    return [(name, source.path) for name, entry in config.mixture.datasets.items() for source in entry.sources]


def _families(config: RunConfig) -> list[str]:
    """What stands before the last `/` of the `demo:` datasets in use."""
    return sorted({path.rpartition("/")[0] for _, path in _paths(config) if path.startswith(_PREFIX)})


def _write(family: str, track: Track) -> Path:
    return write_languages(track=track) if family == _LANGUAGES else write_datasets(_DOMAINS[family], track=track)


def _uses_model(config: RunConfig) -> bool:
    return _MODEL in (config.model, config.difficulty.model)


def _filled(entry: DatasetConfig, files: dict[str, str]) -> DatasetConfig:
    also = [source.model_copy(update={"path": files.get(source.path, source.path)}) for source in entry.also]
    return entry.model_copy(update={"path": files.get(entry.path, entry.path), "also": also})


def model_path(name: str) -> str:
    """The folder of `demo:tiny`, built when it isn't there; any other name as it is.

    Raises:
        ModelError: The model can't be built, or not here.
    """
    return _tiny() if name == _MODEL else name


def _tiny() -> str:
    from hbo.demo.tiny import folder_of

    folder = folder_of()
    if not folder.is_dir():
        if "RANK" in os.environ:
            raise ModelError(f"model '{_MODEL}' isn't built yet; run `hbo demo --build-tiny` first, in one process")
        done = subprocess.run([sys.executable, "-m", "hbo", "demo", "--build-tiny"], stdout=subprocess.DEVNULL)
        if done.returncode or not folder.is_dir():
            raise ModelError(f"model '{_MODEL}' couldn't be built; run `hbo demo --build-tiny` to see why")
    return str(folder)
