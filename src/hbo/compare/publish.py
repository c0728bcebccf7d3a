"""Finished cells → `results.jsonl`, `comparison.md` and `comparison.html`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hbo.atomic import write_file
from hbo.compare.comparison_page import page
from hbo.compare.grid import Cell
from hbo.compare.headroom import Headroom, HeadroomPart
from hbo.compare.markdown import markdown
from hbo.compare.table import Table, tabulate
from hbo.folder.benchmarks import Evaluation
from hbo.folder.metrics import Metrics
from hbo.folder.paths import EVALUATION, METRICS_FILE
from hbo.report.words import PAPER_NAMES


def publish_results(cells: Sequence[Cell], output: Path, headroom: Headroom | None = None) -> None:
    """Writes the files anew from every cell that is finished, and what a search for the best mixture came to.

    Raises:
        DataError: A file can't be written.
    """
    rows = _rows(cells)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    table = tabulate(rows) if rows else None
    runs = [_row(cell) | {"folder": _below(cell.folder, output)} for cell in cells if cell.is_finished]
    told = headroom_part(headroom, cells)
    html = page(table, f"{output.absolute().name}: hbo compare", runs, told)
    shown = {"comparison.md": markdown(table, told), "comparison.html": html}
    for name, text in {"results.jsonl": lines, **shown}.items():
        write_file(output / name, text)


def _below(folder: Path, output: Path) -> str:
    """The run's folder as the page names it in its links."""
    return folder.absolute().relative_to(output.absolute()).as_posix()


def tabulated(cells: Sequence[Cell]) -> Table | None:
    """The table of the cells that are finished, or None where none is."""
    rows = _rows(cells)
    return tabulate(rows) if rows else None


def headroom_part(headroom: Headroom | None, cells: Sequence[Cell]) -> HeadroomPart | None:
    """What the pages say of a search for the best mixture, beside the cells that are finished."""
    return None if headroom is None else headroom.part(_rows(cells))


def _rows(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    return [_row(cell) for cell in cells if cell.is_finished]


def _row(cell: Cell) -> dict[str, Any]:
    found = Metrics.read(cell.folder / METRICS_FILE) or Metrics()
    nll = {name: score.nll for name, score in found.after.items()}
    worst = max(nll, key=lambda name: nll[name]) if nll else None
    return {
        "label": cell.label, "method": cell.method, "seed": cell.seed, "settings": dict(cell.settings),
        "steps": found.steps, "nll": nll, "nll_before": {name: score.nll for name, score in found.before.items()},
        "accuracy": {name: score.model_dump(by_alias=True) for name, score in found.right.items()},
        "macro_nll": found.macro_nll, "relative_nll": found.relative_nll,
        "worst": worst, "worst_nll": nll[worst] if worst else None,
        "seconds": found.train_seconds, "overhead": found.balance_overhead,
        "benchmarks": _benchmarks(cell.folder / EVALUATION),
    }  # fmt: skip


def _benchmarks(file: Path) -> dict[str, float] | None:
    """Accuracy by the paper's means and by task; None for a run that wasn't evaluated."""
    found = Evaluation.read(file)
    if found is None:
        return None
    means = {PAPER_NAMES.get(key, key): measure.accuracy for key, measure in found.averages.items()}
    # A dataset of the mixture may have a benchmark's name.
    return {**means, **{f"benchmark {task}": measure.accuracy for task, measure in found.tasks.items()}}
