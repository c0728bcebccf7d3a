"""Methods × seeds × varied settings → the cells of a grid, each with a checked configuration of its own."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from hbo.config import RunConfig
from hbo.config.balance import TIERS
from hbo.config.file import load
from hbo.config.methods import SETTINGS, actor_kind, method_of
from hbo.errors import ConfigError
from hbo.folder.metrics import Metrics
from hbo.folder.paths import METRICS_FILE
from hbo.run.arguments import typed
from hbo.run.rehearsal import checked_settings
from hbo.text import nearest

_OWN_OPTION = {"balance.method": "--methods", "seed": "--seeds", "output": "--output"}
# What would give the cells other rows to be judged by, or another budget.
_SHARED = ("mixture.eval_fraction", "mixture.split_seed", "mixture.datasets")
_WEIGHT = re.compile(r"mixture\.datasets\..+\.weight")  # where a dataset starts, and no row of it
STATIC = "static mixture"
"""The method of a cell that holds shares of its own for its whole run."""
_COMMA = re.compile(r",(?![^{\[]*[}\]])")  # outside of {global: 100, local: 200}
_BUDGET = ("max_steps", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "seed")
_SAME_ROWS = "all runs are judged by the same held-out rows; make a grid for each value"
_ROWS = ("max_length", "truncation_mode", "chat_template_path", "eos_token")


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
    found = []
    for seed, settings, method in product(seeds, product(*axes), methods):
        varied = [f"{key}={value}" for key, value in settings]
        fixed = [f"balance.method={method}", f"seed={seed}", f"mixture.split_seed={own.split_seed}"]
        name = "-".join([method, *varied, f"seed{seed}"]).replace("/", "_")
        run = load(config, [*varied, *fixed], without=_of_another(own.balance.method, method))
        run = typed(run.model_copy(update={"output": str(output.absolute() / "runs" / name)}))
        if seed == seeds[0]:
            _check_rows(run, own, [key for key, _ in settings])
            _check_trainer(run, [key for key, _ in settings])
        found.append(Cell(method, seed, settings, run))
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


def _check_rows(run: RunConfig, own: RunConfig, varied: Sequence[str]) -> None:
    """Refuses what only looks like a weight: a dataset `x.weight` could be given other rows by that key."""
    for key in filter(_WEIGHT.fullmatch, varied):
        unknown = [name for name in run.mixture.datasets if name not in own.mixture.datasets]
        if unknown or _without_weights(run) != _without_weights(own):
            raise ConfigError(f"--vary {key}: {_SAME_ROWS}")


def _without_weights(run: RunConfig) -> dict[str, object]:
    return {name: entry.model_copy(update={"weight": None}) for name, entry in run.mixture.datasets.items()}


def _check_trainer(run: RunConfig, varied: Sequence[str]) -> None:
    """Refuses, before anything runs, what TRL or PEFT would refuse of the run."""
    _, args, _ = checked_settings(run)
    if args.max_steps <= 0 and "mixture.train_fraction" in varied:
        raise ConfigError(
            "--vary mixture.train_fraction: an epoch of less data has fewer steps, but all runs must have the same "
            "number; set train.max_steps in CONFIG"
        )


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
    if not sign or not key or not all(values) or len(set(values)) != len(values):
        raise ConfigError(f"--vary '{option}' isn't a list of values; write --vary balance.update_every=50,100")
    if key in _OWN_OPTION:
        raise ConfigError(f"--vary {key}: is set by another option; use {_OWN_OPTION[key]}")
    if key.startswith(_SHARED) and not _WEIGHT.fullmatch(key):
        raise ConfigError(f"--vary {key}: {_SAME_ROWS}")
    if key == "global_batch_size" or (key.startswith("train.") and key.removeprefix("train.") in _BUDGET):
        raise ConfigError(f"--vary {key}: all runs have the same budget of steps; make a grid for each value")
    if key.startswith("train.") and key.removeprefix("train.") in _ROWS:
        raise ConfigError(f"--vary {key}: it changes the held-out rows too; make a grid for each value")
    return [(key, value) for value in values]
