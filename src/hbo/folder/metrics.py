"""`metrics.json`: what a run measured and what it cost, written when it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hbo.atomic import write_file
from hbo.folder.paths import METRICS
from hbo.folder.records import Count, Gap, Number, Record, Whole


class Score(Record):
    """A dataset's held-out rows under one model; NaN where nothing was measured."""

    nll: Number
    perplexity: Gap = math.nan
    n: Whole = 0


class Accuracy(Record):
    """The share of a dataset's answerable held-out rows that one model got right."""

    value: Number = Field(alias="accuracy")
    n: Whole = 0
    kind: str | None = None


def _mapping(value: Any) -> Any:
    if not isinstance(value, dict | None):
        raise ValueError("must be a mapping")
    return value or {}


def _measured(value: Any) -> Any:
    """Without the datasets of which the first value, the loss or the accuracy, is null: they weren't scored."""
    rows = _mapping(value)
    unscored = {name for name, row in rows.items() if isinstance(row, dict) and _loss_or_share(row) is None}
    return {name: row for name, row in rows.items() if name not in unscored}


def _loss_or_share(row: Mapping[str, Any]) -> Any:
    return row.get("nll", row.get("accuracy"))


Scored = Annotated[dict[str, Score], BeforeValidator(_measured)]
Answered = Annotated[dict[str, Accuracy], BeforeValidator(_measured)]
Counts = Annotated[dict[str, tuple[Count, ...]], BeforeValidator(_mapping)]
Facts = Annotated[dict[str, str], BeforeValidator(lambda value: {k: str(v) for k, v in _mapping(value).items()})]


class Metrics(Record):
    """The file; a value that is absent or null is None, a dataset that wasn't scored is absent."""

    method: str | None = None
    seed: Whole | None = None
    steps: Whole | None = None
    tokens: Whole | None = None
    train_seconds: Number | None = None
    balance_seconds: Number | None = None
    balance_overhead: Number | None = None
    after: Scored = Field(default_factory=dict, alias="eval")
    before: Scored = Field(default_factory=dict, alias="eval_before")
    macro_nll: Number | None = None
    relative_nll: Number | None = None
    sizes: Counts = Field(default_factory=dict)
    """Dataset → rows of each of its groups."""
    drawn: Counts = Field(default_factory=dict)
    """Dataset → rows that the run took of each."""
    environment: Facts = Field(default_factory=dict)
    right: Answered = Field(default_factory=dict, alias="accuracy")
    right_before: Answered = Field(default_factory=dict, alias="accuracy_before")

    @property
    def macro_before(self) -> float | None:
        """The unweighted mean over datasets of the loss before training, if there is one."""
        scores = [score.nll for score in self.before.values()]
        return sum(scores) / len(scores) if scores else None


def write_metrics(folder: Path, measured: Mapping[str, Any]) -> None:
    """Writes what was `measured`, under the file's keys.

    Raises:
        DataError: The file can't be written.
    """
    write_file(folder / METRICS, parse_metrics(measured).to_json(indent=2))


def read_metrics(file: Path) -> Metrics | None:
    """The run's results, or None when it hasn't written them (yet).

    Raises:
        DataError: The file isn't JSON, or a value has the wrong type.
    """
    return Metrics.read(file)


def parse_metrics(data: Mapping[str, Any], source: str = "metrics") -> Metrics:
    """The results in `data`, checked.

    Raises:
        DataError: A value has the wrong type.

    Example:
        >>> parse_metrics({"eval": {"math": {"nll": 0.0, "perplexity": 1.0, "n": 5}}}).after["math"].n
        5
    """
    return Metrics.checked(dict(data), source)
