"""Methods × seeds × varied settings → the cells of a grid, each with a checked configuration of its own."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations, product
from pathlib import Path

from hbo.compare.comparable import SAME_ROWS, check_comparable
from hbo.config import RunConfig
from hbo.config.balance import TIERS
from hbo.config.file import load
from hbo.config.methods import SETTINGS, actor_kind, method_of
from hbo.errors import ConfigError
from hbo.folder.metrics import Metrics
from hbo.folder.paths import METRICS_FILE
from hbo.run.arguments import typed
from hbo.text import nearest

_OWN_OPTION = {"balance.method": "--methods", "seed": "--seeds", "output": "--output"}
_WHOLE = {"train": "learning_rate", "mixture": "temperature", "mixture.datasets": "NAME.weight"}
_WEIGHT = re.compile(r"mixture\.datasets\..+\.weight")  # where a dataset starts, and no row of it
STATIC = "static mixture"
"""The method of a cell that holds shares of its own for its whole run."""
_COMMA = re.compile(r",(?![^{\[]*[}\]])")  # outside of {global: 100, local: 200}
_LONGEST = 255 - len(".eval.log")  # bytes of a folder's name, beside which lie files of longer names


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    method: str
    seed: int
    settings: tuple[tuple[str, str], ...]
    """What is varied, as key and value."""
    config: RunConfig
    name: str = ""
    """What it is called where method and settings don't say it."""

    @property
    def label(self) -> str:
        """The method with what is varied: a row of the table."""
        return self.name or ", ".join([self.method, *(f"{key}={value}" for key, value in self.settings)])

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(str(self.config.output))

    @property
    def file(self) -> Path:
        """Where the run's configuration stands."""
        return self.folder.with_name(f"{self.folder.name}.yaml")

    @property
    def is_finished(self) -> bool:
        """Whether the cell's results are there; they are written whole, and last."""
        return (self.folder / METRICS_FILE).is_file()


def seed_numbers(text: str) -> list[int]:
    """The seeds in `0,1,2`.

    Raises:
        ConfigError: It is no such list.

    Example:
        >>> seed_numbers("0,1")
        [0, 1]
    """
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds '{text}' isn't a list of whole numbers; write --seeds 0,1,2") from None


def cells(config: Path, methods: Sequence[str], seeds: Sequence[int], vary: Sequence[str], output: Path) -> list[Cell]:
    """Every run of the grid, seed by seed, so that an unfinished grid has whole seeds.

    The held-out rows are those that `config` alone would hold out, whatever the seed of the run. Rewards that it names
    are those of its own method.

    Raises:
        ConfigError: A method, seed or varied key can't be used, or the cells would not be comparable.
    """
    axes = _axes(methods, seeds, vary)
    own = load(config)
    _check_names(axes, own)
    judged = typed(own)
    found = []
    for seed, settings, method in product(seeds, product(*axes), methods):
        varied = [f"{key}={value}" for key, value in settings]
        fixed = [f"balance.method={method}", f"seed={seed}", f"mixture.split_seed={own.split_seed}"]
        name = _folder_name("-".join([method, *varied]), f"-seed{seed}")
        run = load(config, [*varied, *fixed], without=_of_another(own.balance.method, method))
        run = typed(run.model_copy(update={"output": str(output.absolute() / "runs" / name)}))
        if seed == seeds[0]:
            check_comparable(run, judged, [key for key, _ in settings])
        found.append(Cell(method, seed, settings, run))
    _check_settings([cell for cell in found if cell.seed == seeds[0]])
    _check_folders(found)
    return found


def static_cell(config: Path, name: str, weights: Mapping[str, float], seed: int, output: Path) -> Cell:
    """A run that draws each dataset with its weight from the first step to the last; `name` names it and its folder.

    Raises:
        ConfigError: CONFIG can't be used.
    """
    own = load(config)
    fixed = ["balance.method=proportional", f"seed={seed}", f"mixture.split_seed={own.split_seed}"]
    run = load(config, fixed, without=_of_another(own.balance.method, "proportional"))
    entries = {key: entry.model_copy(update={"weight": weights[key]}) for key, entry in run.mixture.datasets.items()}
    folder = output.absolute() / "runs" / f"{name.replace(' ', '-')}-seed{seed}"
    mixture = run.mixture.model_copy(update={"datasets": entries})
    run = typed(run.model_copy(update={"mixture": mixture, "output": str(folder)}))
    return Cell(STATIC, seed, tuple((key, f"{weights[key]:g}") for key in entries), run, name)


def _of_another(own: str, method: str) -> list[str]:
    """The keys of a file for method `own` that would make another method what it isn't: a static one would learn."""
    if method == own:
        return []
    found = [f"balance.{tier}{kind}" for tier in TIERS for kind in ("", "_reward")]
    if actor_kind(own) != actor_kind(method):
        found.append("balance.actor.kind")
    if SETTINGS[method].means_temperature:
        found.append("mixture.temperature")
    return found


def _axes(methods: Sequence[str], seeds: Sequence[int], vary: Sequence[str]) -> list[list[tuple[str, str]]]:
    for method in methods:
        method_of(method)
    for option, values in (("--methods", methods), ("--seeds", seeds)):
        if not values or len(set(values)) != len(values):
            raise ConfigError(f"{option} names {'a value twice' if values else 'nothing'}; give each value once")
    axes = [_axis(option) for option in vary]
    if len({axis[0][0] for axis in axes}) != len(axes):
        raise ConfigError("--vary names a key twice; write all its values after one key=")
    return axes


def _check_names(axes: Sequence[Sequence[tuple[str, str]]], own: RunConfig) -> None:
    for key in (axis[0][0] for axis in axes):
        name = key.removeprefix("mixture.datasets.").removesuffix(".weight")
        if _WEIGHT.fullmatch(key) and name not in own.mixture.datasets:
            known = own.mixture.datasets
            raise ConfigError(
                f"--vary {key}: CONFIG has no dataset '{name}'{nearest(name, known)}; it has {', '.join(known)}"
            )


def _check_settings(found: Sequence[Cell]) -> None:
    """Refuses values that differ as they are written, and not as they are read: 1e-4 and 0.0001."""
    runs: dict[tuple[tuple[str, str], ...], list[RunConfig]] = {}
    for cell in found:
        runs.setdefault(cell.settings, []).append(cell.config.model_copy(update={"output": None}))
    for (one, first), (other, second) in combinations(runs.items(), 2):
        if first == second:
            key, value, again = next((key, a, b) for (key, a), (_, b) in zip(one, other, strict=True) if a != b)
            raise ConfigError(f"--vary {key}: '{value}' and '{again}' make the same run; give one of them")


def _check_folders(found: Sequence[Cell]) -> None:
    owners: dict[Path, Cell] = {}
    for cell in found:
        if (other := owners.setdefault(cell.folder, cell)) is not cell:
            raise ConfigError(
                f"--vary: '{other.label}' and '{cell.label}' would share the folder {cell.folder.name}; write one of "
                "them in another way, or make a grid for each"
            )


def _folder_name(what: str, seed: str) -> str:
    name = f"{what}{seed}".replace("/", "_")
    if len(os.fsencode(name)) <= _LONGEST:
        return name
    start = os.fsencode(name)[:200].decode("utf-8", "ignore")
    return f"{start}-{sha256(os.fsencode(what)).hexdigest()[:12]}{seed}"


def plan(grid: Sequence[Cell]) -> Iterator[str]:
    """A line for each cell, and one for the whole, with an estimate as soon as a cell is finished."""
    for cell in grid:
        steps = cell.config.train.get("max_steps", -1)
        budget = f"{steps} steps" if steps > 0 else f"{cell.config.train.get('num_train_epochs', 3):g} epochs"
        yield f"{cell.label}, seed {cell.seed}: {budget}, {'finished' if cell.is_finished else 'to run'}"
    measured = [Metrics.read(cell.folder / METRICS_FILE) for cell in grid]
    done = [found.train_seconds or 0.0 for found in measured if found]
    left = len(grid) - len(done)
    guess = ""
    if done and left:
        minutes = left * statistics.median(done) / 60
        guess = f", about {minutes:.0f} minutes of training at the speed of those (evaluation not counted)"
    yield f"{len(grid)} runs: {len(done)} finished, {left} to run{guess}"


def _axis(option: str) -> list[tuple[str, str]]:
    key, sign, raw = option.partition("=")
    values = [value.strip() for value in _COMMA.split(raw)]
    if not sign or not key or not all(values):
        raise ConfigError(f"--vary '{option}' isn't a list of values; write --vary balance.update_every=50,100")
    if twice := [value for value in values if values.count(value) > 1]:
        raise ConfigError(f"--vary {key} has '{twice[0]}' twice; give each value once")
    if key in _OWN_OPTION:
        raise ConfigError(f"--vary {key}: is set by another option; use {_OWN_OPTION[key]}")
    if key in _WHOLE:
        raise ConfigError(
            f"--vary {key}: a whole section may change the budget or the held-out rows; vary its keys, such as "
            f"{key}.{_WHOLE[key]}"
        )
    if key == "mixture.split_seed":  # which every run is given
        raise ConfigError(f"--vary {key}: {SAME_ROWS}")
    return [(key, value) for value in values]
