"""What a stage has found so far, kept in a file, so that a stage that is stopped leaves what it had."""

from __future__ import annotations

import json
import math
import traceback
from pathlib import Path
from typing import Any


class Report:
    """The part of a stage's line that the stage itself fills.

    Args:
        file: Where it is kept.
        judges_speed: Whether goals of speed and memory can be met or missed here; they are a GPU's.
    """

    def __init__(self, file: Path, *, judges_speed: bool) -> None:
        self.file, self.judges_speed = file, judges_speed
        self.line: dict[str, Any] = {"figures": {}, "reference": {}, "ratio": {}, "goals": []}

    def add(self, case: str, figures: Any, *, reference: Any = None, ratio: float | None = None) -> None:
        """Notes what a case gave, what the reference gave in the same run, and how they stand to each other."""
        self.line["figures"][case] = _plain(figures)
        if reference is not None:
            self.line["reference"][case] = _plain(reference)
        if ratio is not None:
            self.line["ratio"][case] = _plain(ratio)
        self.save()

    def fail(self, case: str, error: BaseException) -> None:
        """Notes that a case failed; the others go on."""
        traceback.print_exception(error)  # to the stage's log
        self.line["figures"][case] = {"error": said(error)}
        self.line.setdefault("failed", []).append(case)
        self.save()

    def at_most(self, what: str, figure: float | None, bound: float, *, of_speed: bool = True) -> None:
        """A goal that `figure` must not exceed; None where nothing could be measured."""
        self._goal(what, figure, "at_most", bound, figure is not None and figure <= bound, of_speed)

    def at_least(self, what: str, figure: float | None, bound: float, *, of_speed: bool = True) -> None:
        """A goal that `figure` must reach."""
        self._goal(what, figure, "at_least", bound, figure is not None and figure >= bound, of_speed)

    def holds(self, what: str, is_so: bool) -> None:
        """A goal that is met or isn't, on any machine."""
        self.line["goals"].append({"what": what, "met": is_so})
        self.save()

    def _goal(self, what: str, figure: float | None, kind: str, bound: float, is_met: bool, of_speed: bool) -> None:
        judged = figure is not None and (self.judges_speed or not of_speed)
        goal = {"what": what, "figure": _plain(figure), kind: bound, "met": is_met if judged else None}
        self.line["goals"].append(goal)
        self.save()

    def save(self) -> None:
        """Writes the file anew, never half of it."""
        beside = self.file.with_suffix(".new")
        beside.write_text(json.dumps(self.line), encoding="utf-8")
        beside.replace(self.file)


def said(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _plain(value: Any) -> Any:
    """`value` with four significant digits and nothing that JSON lacks."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else str(value)
    return value
