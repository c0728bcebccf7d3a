"""What a model got in a task, the paper's means, and what may stand in one eval.json; the file grows by task.

A task that it holds is not evaluated again, so an evaluation that was stopped goes on where it was; docs/evaluation.md
has the layout.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hbo.benchmarks.harness import Graded
from hbo.benchmarks.tasks import PRESETS
from hbo.errors import ConfigError
from hbo.folder.benchmarks import Evaluation, LanguageResult, Measure, TaskResult


def opened(file: Path, model: str, settings: Mapping[str, Any], *, overwrite: bool) -> Evaluation:
    """The results in `file` to add to, or none yet.

    Raises:
        ConfigError: The file holds results of another model, or under other settings.
        DataError: It is no eval.json.
    """
    held = None if overwrite else Evaluation.read(file)
    if held is None:
        return Evaluation(model=model, settings=dict(settings), averages={}, tasks={})
    if held.model != model:
        raise ConfigError(
            f"{file}: holds results of the model '{held.model}'; give --output another file, or --overwrite"
        )
    for key, value in settings.items():
        if held.asked.get(key) != value:
            raise ConfigError(
                f"{file}: holds results with {key} {json.dumps(held.asked.get(key))}, not {json.dumps(value)}, and "
                "the two can't be mixed; give --output another file, or --overwrite"
            )
    return held


def with_task(held: Evaluation, name: str, result: TaskResult) -> Evaluation:
    """The results with a task's added, and with the paper's means of all."""
    tasks = {**held.tasks, name: result}
    return held.model_copy(update={"tasks": tasks, "averages": papers_means(tasks)})


def task_result(scores: Mapping[str, Graded], seconds: float) -> TaskResult:
    """A task's part of the file: the mean over its languages, each counting the same.

    Example:
        >>> task_result({"sw": Graded(0.25, 0.1, 20, "acc"), "zh": Graded(0.75, 0.1, 20, "acc")}, 1.0).accuracy
        0.5
    """
    languages = {
        language: LanguageResult(accuracy=score.accuracy, standard_error=score.error, n=score.n)
        for language, score in scores.items()
    }
    accuracy, error = _mean(list(languages.values()))
    return TaskResult(
        accuracy=accuracy,
        standard_error=error,
        n=sum(score.n for score in scores.values()),
        metric=next(iter(scores.values())).metric,
        languages={} if "" in languages else languages,
        seconds=round(seconds, 3),
    )


def papers_means(tasks: Mapping[str, Measure]) -> dict[str, Measure]:
    """The paper's μ_ML and μ_MT: the mean over a preset's tasks, for the presets of which none is missing."""
    found = {}
    for preset in PRESETS.values():
        if all(name in tasks for name in preset.tasks):
            accuracy, error = _mean([tasks[name] for name in preset.tasks])
            found[preset.average] = Measure(accuracy=accuracy, standard_error=error)
    return found


def _mean(parts: Sequence[Measure]) -> tuple[float, float]:
    """The unweighted mean of several accuracies, and its error if theirs are independent; NaN if one is unknown."""
    error = math.sqrt(math.fsum(part.error**2 for part in parts)) / len(parts)
    return math.fsum(part.accuracy for part in parts) / len(parts), error
