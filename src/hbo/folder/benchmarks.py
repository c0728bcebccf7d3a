"""`eval.json`: what a model got on benchmarks, task by task and language by language, with the paper's means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from hbo.atomic import write_file
from hbo.folder.records import Count, Gap, Number, Record

_REMEDY = "remove the file, or evaluate with --overwrite"


class Measure(Record):
    """An accuracy with its standard error, NaN where there is none."""

    accuracy: Number
    error: Gap = Field(default=math.nan, alias="standard_error")


class Language(Measure):
    """A task in one language, over its rows."""

    n: Count = 0


class TaskResult(Language):
    """A task: the mean over its languages, of which a task in one language has none."""

    metric: str = ""
    languages: dict[str, Language]
    seconds: Number = 0.0


class Evaluation(Record):
    """The file."""

    model: str
    asked: dict[str, Any] = Field(alias="settings")
    """Under which settings."""
    averages: dict[str, Measure]
    """The paper's means, by key."""
    tasks: dict[str, TaskResult]
    base_model: str | None = None
    environment: dict[str, Any] = Field(default_factory=dict)

    @property
    def settings(self) -> str:
        """The settings in words."""
        return ", ".join(f"{key.replace('_', ' ')} {_word(value)}" for key, value in self.asked.items())

    @property
    def languages(self) -> Mapping[str, Mapping[str, Measure]]:
        """Task → language → result."""
        return {name: task.languages for name, task in self.tasks.items()}


def read_evaluation(file: Path) -> Evaluation | None:
    """The results in `file`, or None when there is no such file.

    Raises:
        DataError: The file isn't JSON, or lacks something.
    """
    return Evaluation.read(file, _REMEDY, item="entry")


def write_evaluation(file: Path, found: Evaluation) -> None:
    """Writes the file.

    Raises:
        DataError: It can't be written.
    """
    write_file(file, found.to_json(indent=2))


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)
