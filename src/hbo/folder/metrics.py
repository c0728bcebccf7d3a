"""`metrics.json` and `trainer_state.json` → what the report knows of the model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbo.errors import DataError


@dataclass(frozen=True)
class Score:
    """A dataset's held-out rows under one model; NaN where nothing was measured."""

    nll: float
    perplexity: float
    n: int


@dataclass(frozen=True)
class Accuracy:
    """The share of a dataset's answerable held-out rows that one model got right."""

    value: float
    n: int


@dataclass(frozen=True)
class Metrics:
    """`metrics.json`; a value that is absent or null is None, a dataset that wasn't scored is absent."""

    method: str | None
    seed: int | None
    steps: int | None
    tokens: int | None
    train_seconds: float | None
    balance_seconds: float | None
    balance_overhead: float | None
    before: Mapping[str, Score]
    after: Mapping[str, Score]
    macro_nll: float | None
    relative_nll: float | None
    sizes: Mapping[str, tuple[int, ...]]
    drawn: Mapping[str, tuple[int, ...]]
    environment: Mapping[str, str]
    right_before: Mapping[str, Accuracy]
    right: Mapping[str, Accuracy]

    @property
    def macro_before(self) -> float | None:
        """The unweighted mean over datasets of the loss before training, if there is one."""
        scores = [score.nll for score in self.before.values()]
        return sum(scores) / len(scores) if scores else None


@dataclass(frozen=True)
class Training:
    """The trainer's own log, and which file it came from."""

    source: str
    step: int
    max_steps: int
    log: tuple[Mapping[str, Any], ...]

    def series(self, key: str) -> tuple[list[int], list[float]]:
        """The steps at which `key` was logged, and its values."""
        found = [(row["step"], row[key]) for row in self.log if _is_number(row.get(key))]
        return [step for step, _ in found], [float(value) for _, value in found]


def read_metrics(file: Path) -> Metrics | None:
    """The run's results, or None when it hasn't written them (yet).

    Raises:
        DataError: The file isn't JSON, or a value has the wrong type.
    """
    data = read_object(file)
    return None if data is None else parse_metrics(data, str(file))


def parse_metrics(data: Mapping[str, Any], source: str = "metrics") -> Metrics:
    """The results in `data`, checked.

    Raises:
        DataError: A value has the wrong type.

    Example:
        >>> parse_metrics({"eval": {"math": {"nll": 0.0, "perplexity": 1.0, "n": 5}}}).after["math"].n
        5
    """
    method = data.get("method")
    if not (method is None or isinstance(method, str)):
        raise DataError(f"{source}: 'method' is {str(method)[:40]!r} where a name is needed")
    return Metrics(
        method=method,
        seed=_count(data, "seed", source),
        steps=_count(data, "steps", source),
        tokens=_count(data, "tokens", source),
        train_seconds=_number(data, "train_seconds", source),
        balance_seconds=_number(data, "balance_seconds", source),
        balance_overhead=_number(data, "balance_overhead", source),
        before=_scores(data, "eval_before", source),
        after=_scores(data, "eval", source),
        macro_nll=_number(data, "macro_nll", source),
        relative_nll=_number(data, "relative_nll", source),
        sizes=_counts(data, "sizes", source),
        drawn=_counts(data, "drawn", source),
        environment={str(k): str(v) for k, v in _mapping(data, "environment", source).items()},
        right_before=_accuracies(data, "accuracy_before", source),
        right=_accuracies(data, "accuracy", source),
    )


def read_training(folder: Path) -> Training | None:
    """The log of the finished run, else of its latest checkpoint, else None.

    Raises:
        DataError: The file isn't a trainer's state.
    """
    checkpoints = [(int(p.name[11:]), p) for p in folder.glob("checkpoint-*") if p.name[11:].isdecimal()]
    for place in (folder, *(path for _, path in sorted(checkpoints, reverse=True))):
        file = place / "trainer_state.json"
        data = read_object(file)
        if data is None:
            continue
        rows = data.get("log_history", [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) and _is_step(row.get("step")) for row in rows):
            raise DataError(f"{file}: 'log_history' must be a list of entries that each have a 'step'")
        step, planned = (_count(data, key, str(file)) or 0 for key in ("global_step", "max_steps"))
        return Training(file.relative_to(folder).as_posix(), step, planned, tuple(rows))
    return None


def read_object(file: Path) -> dict[str, Any] | None:
    """The JSON object in `file`, or None when there is no such file.

    Raises:
        DataError: The file can't be read or holds something else.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{file}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: not UTF-8") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno}: not JSON ({error.msg}); remove the file or run again") from None
    except (ValueError, RecursionError):
        raise DataError(f"{file}: not JSON; remove the file or run again") from None
    if not isinstance(data, dict):
        raise DataError(f"{file}: must hold a JSON object")
    return data


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _mapping(data: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    value = data.get(key)
    if not (value is None or isinstance(value, dict)):
        raise DataError(f"{source}: '{key}' must be a mapping")
    return value or {}


def _number(data: Mapping[str, Any], key: str, source: str) -> float | None:
    value = data.get(key)
    if value is None:
        return None
    if not _is_number(value):
        raise DataError(f"{source}: '{key}' is {str(value)[:40]!r} where a number is needed")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _count(data: Mapping[str, Any], key: str, source: str) -> int | None:
    value = data.get(key)
    if value is None:
        return None
    if not _is_number(value) or not math.isfinite(value) or value != int(value):
        raise DataError(f"{source}: '{key}' is {str(value)[:40]!r} where a whole number is needed")
    return int(value)


def _scores(data: Mapping[str, Any], key: str, source: str) -> dict[str, Score]:
    scores: dict[str, Score] = {}
    for name, row in _mapping(data, key, source).items():
        where = f"{source}: '{key}', dataset '{str(name)[:40]}'"
        if not isinstance(row, dict):
            raise DataError(f"{where}: must hold nll, perplexity and n")
        nll, perplexity = _number(row, "nll", where), _number(row, "perplexity", where)
        if nll is not None:
            scores[str(name)] = Score(nll, math.nan if perplexity is None else perplexity, _count(row, "n", where) or 0)
    return scores


def _accuracies(data: Mapping[str, Any], key: str, source: str) -> dict[str, Accuracy]:
    found: dict[str, Accuracy] = {}
    for name, row in _mapping(data, key, source).items():
        where = f"{source}: '{key}', dataset '{str(name)[:40]}'"
        if not isinstance(row, dict):
            raise DataError(f"{where}: must hold accuracy, n and kind")
        value = _number(row, "accuracy", where)
        if value is not None:
            found[str(name)] = Accuracy(value, _count(row, "n", where) or 0)
    return found


def _counts(data: Mapping[str, Any], key: str, source: str) -> dict[str, tuple[int, ...]]:
    found = _mapping(data, key, source)
    if not all(isinstance(row, list) and all(_is_step(n) for n in row) for row in found.values()):
        raise DataError(f"{source}: '{key}' must map each dataset to a number of rows for each of its groups")
    return {name: tuple(row) for name, row in found.items()}
