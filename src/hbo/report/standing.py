"""How a run stands, and what would tell whether balancing helped."""

from __future__ import annotations

from pathlib import Path

from hbo.folder.run import Run
from hbo.folder.status import FAILED, INTERRUPTED, is_gone
from hbo.report.next_steps import compared_runs, comparison_of
from hbo.text import duration, one_line

_SCRIPT = 'trainer.add_callback(HBOCallback(trainer, METHODS["proportional"]))  # from hbo import METHODS'


def standing(run: Run) -> tuple[str, str]:
    """A word and a sentence about a run that hasn't finished; two empty strings for one that has."""
    if run.has_finished:
        return "", ""
    status = run.status
    at = f"at step {run.steps:,}" + (f" of {run.planned:,}" if run.planned > run.steps else "")
    if status is None:
        return "Unfinished:", (
            "there is no metrics.json, so the run is still going on, or was stopped before its end. Held-out results "
            "are missing."
        )
    if status.end in (FAILED, INTERRUPTED):
        why = f": {one_line(status.message)}" if status.message else ""
        return f"{status.end.capitalize()}", f"{at}{why}."
    if is_gone(status):
        return "Stopped", f"{at}: its process ended without an error message."
    return "Unfinished:", f"the run is {at}; the results measured at its end are missing."


def whether_balancing_helped(run: Run) -> tuple[str, str]:
    """A sentence, and the command or the line of code that would show it."""
    question = "Whether balancing would have helped" if run.is_static else "Whether balancing helped"
    if not run.config_text:
        return (
            f"{question} is another question: run the same script with fixed shares too, both with several "
            "seeds, and compare the reports side by side (hbo report RUN OTHER --output both.html)."
        ), _SCRIPT
    count = compared_runs(run.method)
    seconds = run.metrics.train_seconds if run.metrics else None
    took = f", about {duration(count * seconds)} of training" if seconds else ""
    return (
        f"{question} is another question, which one run can't answer. This command does: the same configuration "
        f"under {'other methods' if run.is_static else 'fixed shares'} and several seeds, {count} runs{took}."
    ), comparison_of(_near(run.folder), run.method)


def _near(folder: Path) -> Path:
    """The folder as it is called from the working directory, where it lies below it."""
    try:
        return folder.resolve().relative_to(Path.cwd())
    except (ValueError, OSError):
        return folder
