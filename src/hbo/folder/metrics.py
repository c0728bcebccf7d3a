"""`metrics.json`: what a run measured and what it cost, written when it ends."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pydantic import Field, StrictFloat, field_validator

from hbo.folder.records import Count, Gap, Record


class Score(Record):
    """A dataset's held-out rows under one model; NaN where nothing was measured."""

    nll: StrictFloat
    perplexity: Gap = math.nan
    n: Count = 0


class Accuracy(Record):
    """The share of a dataset's answerable held-out rows that one model got right."""

    value: StrictFloat = Field(alias="accuracy")
    n: Count = 0
    kind: str | None = None

    @property
    def right(self) -> int:
        """How many rows that is."""
        return round(self.value * self.n)


class Metrics(Record):
    """The file; a value that is absent or null is None, a dataset that wasn't scored is absent.

    Example:
        >>> Metrics.checked({"eval": {"math": {"nll": 0.0, "perplexity": 1.0, "n": 5}}}, "metrics.json").after["math"].n
        5
    """

    indent: ClassVar[int] = 2

    method: str | None = None
    seed: Count | None = None
    steps: Count | None = None
    tokens: Count | None = None
    train_seconds: StrictFloat | None = None
    balance_seconds: StrictFloat | None = None
    balance_overhead: StrictFloat | None = None
    after: dict[str, Score] = Field(default_factory=dict, alias="eval")
    before: dict[str, Score] = Field(default_factory=dict, alias="eval_before")
    macro_nll: StrictFloat | None = None
    relative_nll: StrictFloat | None = None
    sizes: dict[str, tuple[Count, ...]] = Field(default_factory=dict)
    """Dataset → rows of each of its groups."""
    drawn: dict[str, tuple[Count, ...]] = Field(default_factory=dict)
    """Dataset → rows that the run took of each."""
    environment: dict[str, str] = Field(default_factory=dict)
    right: dict[str, Accuracy] = Field(default_factory=dict, alias="accuracy")
    right_before: dict[str, Accuracy] = Field(default_factory=dict, alias="accuracy_before")

    @field_validator("after", "before", "right", "right_before", mode="before")
    @classmethod
    def _scored(cls, value: Any) -> Any:
        """Without the datasets of which the loss, or the accuracy, is null."""
        if not isinstance(value, dict | None):
            raise ValueError("must be a mapping")
        rows = (value or {}).items()
        return {name: row for name, row in rows if not isinstance(row, dict) or _measured(row) is not None}

    @property
    def macro_before(self) -> float | None:
        """The unweighted mean over datasets of the loss before training, if there is one."""
        scores = [score.nll for score in self.before.values()]
        return sum(scores) / len(scores) if scores else None


def _measured(row: dict[str, Any]) -> Any:
    return row.get("nll", row.get("accuracy"))
