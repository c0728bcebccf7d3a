"""`eval.json`: what a model got on benchmarks, task by task and language by language, with the paper's means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, StrictFloat

from hbo.folder.records import Count, Gap, Record


class Measure(Record):
    """An accuracy with its standard error, NaN where there is none."""

    accuracy: StrictFloat
    error: Gap = Field(default=math.nan, alias="standard_error")


class LanguageResult(Measure):
    """A task in one language, over its rows."""

    n: Count = 0


class TaskResult(LanguageResult):
    """A task: the mean over its languages, of which a task in one language has none."""

    metric: str = ""
    languages: dict[str, LanguageResult]
    seconds: StrictFloat = 0.0


class Evaluation(Record):
    """The file."""

    remedy: ClassVar[str] = "remove the file, or evaluate with --overwrite"
    item: ClassVar[str] = "entry"
    indent: ClassVar[int] = 2

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


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)
