"""Stage 7: seven methods, three seeds or more, in real runs on one card, several at a time, as `hbo compare` runs them.

The runs are the cells of an `hbo compare` grid, in its folders and with its tables. This stage starts them itself: the
grid's own runners begin one run after the other, which takes as long as training does here, and don't look at the
clock. Rows are scored first, so that every run finds the scores in the cache. Then as many short runs as go side by
side tell how fast steps are.

A step of 64 rows is about 7,000 tokens × 6 × 0.135e9 = 6 TFLOP, 30 ms of a card, but Python takes 0.2 to 0.4 s for
each of its two batches, and for each batch of an update. Runs side by side share that among cores. On an H200 the
scores took 12 s, and four first runs of 30 steps with an update after every second weren't done in 110 s; since then
they have 20 steps with an update after every third, and half of the probes. The steps are 300, or what three seeds
leave time for, and further seeds follow where there is some left. A run holds 2.2 GB of weights and Adam, and 5 GB of
activations for 32 rows.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from hbo.compare.grid import Cell, cells
from hbo.compare.publish import publish_results
from hbo.config import RunConfig
from hbo.demo.corpora import DEMO, TINY, datasets_folder
from hbo.folder.metrics import Metrics
from hbo.folder.paths import CONFIG, METRICS_FILE
from hbo.progress import silent
from hbo.run.arguments import training_arguments, typed
from hbo.run.model import find_model, load_weights
from hbo.run.rows import read_data
from hbo.run.scored_rows import scored

from .clock import free_memory
from .machine import device
from .model_files import model_folder
from .report import Report
from .rows import byte_tokenizer, write_sums
from .runs import Runs
from .settings import Settings
from .shapes import llama

_METHODS = ("hbo", "uniform", "proportional", "temperature", "mos+", "gain", "slope")
_KEPT = ("results.jsonl", "comparison.md", "comparison.html")
_UNIFORM_START = "mixture.temperature=inf"
_GIB_PER_RUN = 10.0
_MARGIN = 12.0  # seconds for tables, and for runs that take longer than the one before


@dataclass(frozen=True)
class Sizes:
    """How large; beside these methods hbo runs from a uniform start."""

    methods: tuple[str, ...]
    least_seeds: int
    most_seeds: int
    batch: int
    accumulation: int
    steps: int
    least_steps: int
    first_steps: int
    updates: int
    probes: int


SIZES = {
    "full": Sizes(_METHODS, 3, 6, 32, 2, 300, 40, 20, 5, 16),
    "cpu": Sizes(("hbo", "uniform"), 1, 1, 4, 1, 4, 2, 2, 2, 4),
    "toy": Sizes(("uniform",), 1, 1, 4, 1, 4, 2, 2, 2, 4),
}
_DOMAINS = ("general", "math", "finance", "medical")


def run(settings: Settings, seconds: float, report: Report) -> None:
    """Fills the report."""
    ends = time.monotonic() + seconds
    sizes, folder = _sizes(settings), Path(settings.scratch) / "comparison"
    folder.mkdir(parents=True)
    model, data = _model(settings, folder), _data(settings, folder)
    slots = _slots(settings)
    report.add("scoring", _scored(_grid(folder / "first", _config(sizes, 1, model, data), sizes, range(1))[0].config))
    first = _first_runs(sizes, folder / "first", _config(sizes, sizes.first_steps, model, data), slots, ends)
    report.add("first runs", first)
    steps = _steps(sizes, first, slots, ends - time.monotonic())
    grid = _grid(folder, _config(sizes, steps, model, data), sizes, range(sizes.most_seeds))
    runs = Runs(grid, slots, ends - _MARGIN)
    try:
        runs.run()
    finally:
        runs.stop()
        finished = _whole_seeds(grid)
        seeds = len({cell.seed for cell in finished})
        found = {"steps": steps, "side_by_side": slots, "runs": len(finished), "seeds": seeds, "data": data.name}
        report.add("runs", found | {"failed": runs.failed, "left_out": len(runs.seconds) - len(finished)})
    if not finished:
        raise RuntimeError(f"no seed was finished by all methods ({len(runs.seconds)} runs were); give it more minutes")
    _tables(settings, folder, finished, report)
    report.at_least("seeds that all methods finished", seeds, sizes.least_seeds)


def _sizes(settings: Settings) -> Sizes:
    sizes = SIZES[settings.size]
    return replace(sizes, methods=tuple(settings.methods.split(","))) if settings.methods else sizes


def _model(settings: Settings, folder: Path) -> Path:
    if settings.size != "toy":
        return model_folder(settings.model)
    model = folder / "model"
    llama("toy").cpu().save_pretrained(model)
    byte_tokenizer().save_pretrained(model)
    return model


def _data(settings: Settings, folder: Path) -> Path:
    """The folder with a JSONL file of each domain."""
    if settings.data is not None:
        chosen = Path(settings.data).absolute()
        if lacking := [f"{name}.jsonl" for name in _DOMAINS if not (chosen / f"{name}.jsonl").is_file()]:
            raise FileNotFoundError(f"--data {chosen}: holds no {lacking[0]}; it takes {', '.join(_DOMAINS)} .jsonl")
        return chosen
    if settings.size == "toy":
        write_sums(folder / "data", _DOMAINS, 24)
        return folder / "data"
    for found in (datasets_folder(TINY), datasets_folder(DEMO)):  # the larger mixture of the same sets first
        if found.is_dir():
            return found
    raise FileNotFoundError(
        f"the demo's datasets aren't in {datasets_folder(TINY).parent}; run `python -m benchmarks.gpu --prepare` where "
        "there is a network, or give --data a folder with general.jsonl, math.jsonl, finance.jsonl and medical.jsonl"
    )


def _slots(settings: Settings) -> int:
    """How many runs go side by side: as many as cores, memory of the card and methods allow."""
    cores = max(1, (os.cpu_count() or 1) // 2)
    if device().type == "cpu":
        return 2 if settings.size == "toy" else cores
    gib = torch.cuda.get_device_properties(0).total_memory / 2**30
    return max(1, min(8, cores, int(gib / _GIB_PER_RUN)))


def _config(sizes: Sizes, steps: int, model: Path, data: Path) -> dict[str, Any]:
    datasets = {name: str(data / f"{name}.jsonl") for name in _DOMAINS}
    return {
        "model": str(model),
        "mixture": {"eval_fraction": 0.1, "datasets": datasets},
        "difficulty": {"metric": "ifd", "groups": 4},
        "balance": {
            "method": "hbo",
            "update_every": max(1, int(steps / (sizes.updates + 0.5))),  # the last update has steps to act upon
            "probes": sizes.probes,
            "actor": {"learning_rate": 1e-3},  # ten times the paper's, as there are a fifth of its updates
        },
        "train": {
            "max_steps": steps,
            "per_device_train_batch_size": sizes.batch,
            "gradient_accumulation_steps": sizes.accumulation,
            "learning_rate": 5e-5,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0.1,
            "activation_checkpointing": False,
            "max_length": 512,
            "logging_steps": 10,
            "save_strategy": "no",
            "report_to": "none",
        },
    }


def _scored(config: RunConfig) -> dict[str, float]:
    """Fills the cache with the scores of the rows that all runs train on."""
    began = time.monotonic()
    config = typed(config)
    args = training_arguments(config)
    found = find_model(config)
    rows = read_data(config, found, args, silent).train
    scores = scored(config, rows, load_weights(found.spec, args), found.tokenizer, args, silent)
    free_memory()
    return {"rows": len(scores.loss_N), "seconds": time.monotonic() - began}


def _first_runs(sizes: Sizes, folder: Path, config: dict[str, Any], slots: int, ends: float) -> dict[str, float]:
    """A few steps of as many runs as go side by side: how long they take to begin and to end, and for a step."""
    grid = _grid(folder, config, sizes, range(1))[: slots if device().type == "cuda" else 1]
    runs = Runs(grid, slots, ends)
    try:
        runs.run()
    finally:
        runs.stop()
    done = [cell for cell in grid if cell.is_finished]
    if not done:
        raise RuntimeError(f"none of the first runs was finished: {runs.failed or 'no time left'}")
    found = filter(None, (Metrics.read(cell.folder / METRICS_FILE) for cell in done))
    seconds = [(metrics.train_seconds or 0.0, metrics.balance_seconds or 0.0) for metrics in found]
    trained, balanced = zip(*seconds, strict=True)
    steps = [(whole - part) / sizes.first_steps for whole, part in seconds]
    return {
        "seconds": max(runs.seconds),
        "around_training_seconds": max(runs.seconds) - min(trained),
        "step_seconds": statistics.mean(steps),
        "updates_seconds": max(balanced),
    }


def _steps(sizes: Sizes, first: dict[str, float], slots: int, left: float) -> int:
    """The steps with which the least number of seeds fits."""
    rounds = -(-(len(sizes.methods) + 1) * sizes.least_seeds // slots)
    per_run = (left - _MARGIN) / rounds - first["around_training_seconds"] - first["updates_seconds"]
    return int(min(sizes.steps, max(sizes.least_steps, per_run / first["step_seconds"])))


def _grid(folder: Path, config: dict[str, Any], sizes: Sizes, seeds: Sequence[int]) -> list[Cell]:
    """Every run, seed by seed."""
    file = _written(folder, config)
    found = cells(file, sizes.methods, seeds, (), folder) + cells(file, ("hbo",), seeds, (_UNIFORM_START,), folder)
    return sorted(found, key=lambda cell: cell.seed)


def _written(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / CONFIG
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file


def _whole_seeds(grid: Sequence[Cell]) -> list[Cell]:
    """The finished cells of the seeds that every method has finished: all methods are judged by the same."""
    lacking = {cell.seed for cell in grid if not cell.is_finished}
    return [cell for cell in grid if cell.seed not in lacking]


def _tables(settings: Settings, folder: Path, finished: Sequence[Cell], report: Report) -> None:
    publish_results(finished, folder)
    kept = Path(settings.output) / "comparison"
    kept.mkdir(parents=True, exist_ok=True)
    for name in _KEPT:
        shutil.copy(folder / name, kept / name)
    found: dict[str, Any] = {}
    for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["label"], []).append([row["macro_nll"], row["relative_nll"], row["seconds"]])
    for label, values in found.items():
        nll, relative, seconds = (sum(each) / len(values) for each in zip(*values, strict=True))
        report.add(label, {"macro_nll": nll, "relative_nll": relative, "train_seconds": seconds, "seeds": len(values)})
