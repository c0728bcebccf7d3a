"""What a grid would run, in words."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence

from hbo.compare.grid import Cell
from hbo.compare.runner import is_finished
from hbo.training.run_folder import METRICS


def plan(cells: Sequence[Cell]) -> Iterator[str]:
    """A line for each cell, and one for the whole, with an estimate as soon as a cell is finished.

    Raises:
        Nothing.
    """
    seconds = []
    for cell in cells:
        if is_finished(cell):
            seconds.append(float(json.loads((cell.folder / METRICS).read_text(encoding="utf-8"))["train_seconds"]))
        yield f"{cell.label}, seed {cell.seed}: {_budget(cell)}, {'finished' if is_finished(cell) else 'to run'}"
    left = len(cells) - len(seconds)
    guess = ""
    if seconds and left:
        minutes = left * statistics.median(seconds) / 60
        guess = f", about {minutes:.0f} minutes of training at the speed of those (evaluation not counted)"
    yield f"{len(cells)} runs: {len(seconds)} finished, {left} to run{guess}"


def _budget(cell: Cell) -> str:
    steps = cell.config.train.get("max_steps", -1)
    return f"{steps} steps" if steps > 0 else f"{cell.config.train.get('num_train_epochs', 3):g} epochs"
