"""eval.json: what a model got in each task and language, and the paper's means; it grows by task.

A task that it holds is not evaluated again, so an evaluation that was stopped goes on where it was; docs/evaluation.md
has the layout.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hbo.benchmarks.harness import Score
from hbo.benchmarks.tasks import PRESETS
from hbo.data.cache import atomic_path
from hbo.errors import ConfigError
from hbo.folder.benchmarks import read_evaluation

Results = dict[str, Any]
"""What eval.json holds."""


def opened(file: Path, model: str, settings: Mapping[str, Any], *, overwrite: bool) -> Results:
    """The results in `file` to add to, or none yet.

    Raises:
        ConfigError: The file holds results of another model, or under other settings.
        DataError: It is no eval.json.
    """
    fresh: Results = {"model": model, "settings": dict(settings), "averages": {}, "tasks": {}}
    if overwrite or read_evaluation(file) is None:
        return fresh
    held: Results = json.loads(file.read_text(encoding="utf-8"))
    if held.get("model") != model:
        raise ConfigError(
            f"{file}: holds results of the model '{held.get('model')}'; give --output another file, or --overwrite"
        )
    for key, value in settings.items():
        if held.get("settings", {}).get(key) != value:
            raise ConfigError(
                f"{file}: holds results with {key} {json.dumps(held.get('settings', {}).get(key))}, not "
                f"{json.dumps(value)}, which can't be put beside these; give --output another file, or --overwrite"
            )
    return held


def entry(scores: Mapping[str, Score], seconds: float) -> Results:
    """A task's part of the file: the mean over its languages, each counting the same.

    Raises:
        Nothing.

    Example:
        >>> entry({"sw": Score(0.25, 0.1, 20, "acc,none"), "zh": Score(0.75, 0.1, 20, "acc,none")}, 1.0)["accuracy"]
        0.5
    """
    languages = {
        language: {"accuracy": score.accuracy, "standard_error": score.error, "n": score.n}
        for language, score in scores.items()
    }
    return {
        **_mean(list(languages.values())),
        "n": sum(score.n for score in scores.values()),
        "metric": next(iter(scores.values())).metric,
        "languages": {} if "" in languages else languages,
        "seconds": round(seconds, 3),
    }


def averages(tasks: Mapping[str, Results]) -> Results:
    """The paper's μ_ML and μ_MT: the mean over a preset's tasks, for the presets of which none is missing.

    Raises:
        Nothing.
    """
    return {
        preset.average: _mean([tasks[name] for name in preset.tasks])
        for preset in PRESETS.values()
        if all(name in tasks for name in preset.tasks)
    }


def write(file: Path, results: Results) -> None:
    """Writes the file, with its means.

    Raises:
        DataError: It can't be written.
    """
    results["averages"] = averages(results["tasks"])
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _mean(parts: Sequence[Mapping[str, Any]]) -> Results:
    """The unweighted mean of several accuracies, and its error if theirs are independent."""
    errors = [part["standard_error"] for part in parts]
    known = None not in errors
    return {
        "accuracy": math.fsum(part["accuracy"] for part in parts) / len(parts),
        "standard_error": math.sqrt(math.fsum(error**2 for error in errors)) / len(parts) if known else None,
    }
