"""`eval.json`, the results on benchmarks, and what the page and the terminal show of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from hbo.errors import DataError, visible
from hbo.report.markup import how_to_read, name, section, table, text, with_error
from hbo.report.results import read_object

SHOWN = {"mu_ml": "μ_ML", "mu_mt": "μ_MT"}
"""The paper's names of its means."""


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


def evaluation(found: Evaluation) -> str:
    """The page's section."""
    languages = _languages(found)
    head = ["Task", "Accuracy", *map(text, languages)]
    rows = []
    for task, measure in found.tasks.items():
        per_language = found.languages[task]
        cells = [_cell(per_language[language]) if language in per_language else "" for language in languages]
        rows.append([name(task), _cell(measure), *cells])
    for key, measure in found.averages.items():
        rows.append([f"<strong>{text(SHOWN.get(key, key))}</strong>", _cell(measure), *[""] * len(languages)])
    return section(
        "evaluation",
        "Benchmarks",
        how_to_read(
            "evaluation",
            "accuracy in percent ± standard error over rows, by lm-eval. A task's is the mean over its languages, "
            "μ_ML and μ_MT are means over the tasks of the paper's two tables. "
            f"Settings: {found.settings}.",
        ),
        table("Accuracy on benchmarks", head, rows),
    )


def evaluation_table(found: Evaluation) -> Table:
    """What the terminal shows.

    Raises:
        Nothing.
    """
    shown = Table(title="Accuracy in percent", title_justify="left")
    shown.add_column("task", no_wrap=True)
    for column in ("accuracy", "± error", "languages"):
        shown.add_column(column, justify="left" if column == "languages" else "right")
    for task, measure in found.tasks.items():
        per_language = (f"{each} {100 * m.accuracy:.1f}" for each, m in found.languages[task].items())
        shown.add_row(visible(task), *_percent(measure), ", ".join(per_language))
    if found.averages:
        shown.add_section()
    for key, measure in found.averages.items():
        shown.add_row(SHOWN.get(key, visible(key)), *_percent(measure), "")
    return shown


def _languages(found: Evaluation) -> Sequence[str]:
    return list(dict.fromkeys(language for rows in found.languages.values() if len(rows) > 1 for language in rows))


def _cell(measure: Measure) -> str:
    return with_error(100 * measure.accuracy, 100 * measure.error, 1)


def _percent(measure: Measure) -> tuple[str, str]:
    return f"{100 * measure.accuracy:.2f}", "–" if math.isnan(measure.error) else f"{100 * measure.error:.2f}"


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
