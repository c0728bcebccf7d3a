"""`demo:` names in a configuration → the files they stand for, made when they aren't there.

model: demo:tiny                the model that `hbo demo --build-tiny` builds
path: demo:tiny/math            a dataset of the mixture that goes with it: general, math, finance or medical
"""

from __future__ import annotations

import os
import subprocess
import sys

from hbo.config import RunConfig
from hbo.demo.corpora import TINY, write_datasets
from hbo.errors import ConfigError, ModelError
from hbo.progress import Track, silent

_PREFIX = "demo:"
_MODEL = "demo:tiny"


def fill_in(config: RunConfig, *, track: Track = silent) -> RunConfig:
    """`config` with a path in the place of every `demo:` name.

    The model is built in a process of its own, so that it comes out the same whatever runs here.

    Raises:
        ConfigError: There is no such name.
        DataError: The corpora can't be fetched or written.
        ModelError: The model can't be built, or not here.
    """
    models = {config.model, config.difficulty.model} - {None}
    datasets = config.mixture.datasets
    for name in models:
        if str(name).startswith(_PREFIX) and name != _MODEL:
            raise ConfigError(f"model '{name}' is unknown; the demo has one of its own, {_MODEL}")
    for name, entry in datasets.items():
        if entry.path.startswith(_PREFIX) and entry.path not in _paths():
            raise ConfigError(f"dataset '{name}': '{entry.path}' is unknown; choose one of {', '.join(_paths())}")
    if any(entry.path.startswith(_PREFIX) for entry in datasets.values()):
        folder = write_datasets(TINY, track=track)
        files = {name: str(folder / f"{name.rpartition('/')[2]}.jsonl") for name in _paths()}
        datasets = {
            name: entry.model_copy(update={"path": files.get(entry.path, entry.path)})
            for name, entry in datasets.items()
        }
        config = config.model_copy(update={"mixture": config.mixture.model_copy(update={"datasets": datasets})})
    if _MODEL in models:
        model = _tiny()
        scorer = model if config.difficulty.model == _MODEL else config.difficulty.model
        config = config.model_copy(
            update={
                "model": model if config.model == _MODEL else config.model,
                "difficulty": config.difficulty.model_copy(update={"model": scorer}),
            }
        )
    return config


def model_path(name: str) -> str:
    """The folder of `demo:tiny`, built when it isn't there; any other name as it is.

    Raises:
        ModelError: The model can't be built, or not here.
    """
    return _tiny() if name == _MODEL else name


def _paths() -> list[str]:
    return [f"{_MODEL}/{domain}" for domain in TINY]


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
