"""`eval.json`: the results on benchmarks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbo.errors import DataError
from hbo.folder.metrics import read_object


@dataclass(frozen=True)
class Measure:
    """An accuracy with its standard error, NaN where there is none."""

    accuracy: float
    error: float


@dataclass(frozen=True)
class Evaluation:
    """What the file holds.

    Attributes:
        model: What was evaluated.
        settings: Under which settings, in words.
        averages: The paper's means, by key.
        tasks: Each task's mean over its languages.
        languages: Task → language → result.
    """

    model: str
    settings: str
    averages: Mapping[str, Measure]
    tasks: Mapping[str, Measure]
    languages: Mapping[str, Mapping[str, Measure]]


def read_evaluation(file: Path) -> Evaluation | None:
    """The results in `file`, or None when there is no such file.

    Raises:
        DataError: The file isn't JSON, or lacks something.
    """
    data = read_object(file)
    if data is None:
        return None
    tasks = _mapping(data, "tasks", file)
    settings = _mapping(data, "settings", file)
    return Evaluation(
        str(data.get("model")),
        ", ".join(f"{key.replace('_', ' ')} {_word(value)}" for key, value in settings.items()),
        {key: _measure(value, key, file) for key, value in _mapping(data, "averages", file).items()},
        {key: _measure(value, key, file) for key, value in tasks.items()},
        {
            task: {language: _measure(row, task, file) for language, row in _mapping(entry, "languages", file).items()}
            for task, entry in tasks.items()
        },
    )


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)


def _mapping(data: Any, key: str, file: Path) -> Mapping[str, Any]:
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, dict):
        raise DataError(f"{file}: '{key}' must be a mapping; remove the file, or evaluate with --overwrite")
    return value


def _measure(row: Any, where: str, file: Path) -> Measure:
    accuracy, error = (row.get(key) if isinstance(row, dict) else None for key in ("accuracy", "standard_error"))
    if isinstance(accuracy, bool) or not isinstance(accuracy, int | float):
        raise DataError(f"{file}: '{where[:40]}' must hold an accuracy; remove the file, or evaluate with --overwrite")
    known = float(error) if isinstance(error, int | float) and not isinstance(error, bool) else math.nan
    return Measure(float(accuracy), known)
