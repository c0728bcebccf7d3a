"""What a grid leaves undone: which runs failed, what each said last, and where it said the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hbo.compare.grid import Cell

TRAINING_LOG, EVALUATION_LOG = "log", "eval.log"


def log_of(cell: Cell, kind: str) -> Path:
    """Where a command that works on the cell writes what it says."""
    return cell.folder.with_name(f"{cell.folder.name}.{kind}")


def last_words(log: Path) -> str:
    """The last line of the log, and where the others are."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{lines[-1][:300] if lines else 'it said nothing'}; see {log}"


def failures(cells: Sequence[Cell], is_evaluated: Callable[[Path], bool] | None = None) -> Iterator[str]:
    """A line for each cell without results, once all runners have ended.

    Args:
        cells: All of the grid.
        is_evaluated: Whether the folder of a run holds all results of its evaluation; None: none is asked for.
    """
    for cell in cells:
        if not cell.is_finished:
            log = log_of(cell, TRAINING_LOG)
        elif is_evaluated and not is_evaluated(cell.folder):
            log = log_of(cell, EVALUATION_LOG)
        else:
            continue
        if log.is_file():
            yield f"{cell.label}, seed {cell.seed}: {last_words(log)}"
