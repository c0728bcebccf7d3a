"""`mixture.json`: what a run is trained on, group by group, with a few rows to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

from pydantic import Field

from hbo.folder.records import Count, Gap, Record


class Example(Record):
    """One row, its texts cut short."""

    row: Count
    score: Gap = math.nan
    prompt: str
    response: str


class Group(Record):
    """A difficulty group: its rows, the scores between which they lie (NaN without scores), some of the rows."""

    rows: Count
    low: Gap = math.nan
    high: Gap = math.nan
    examples: tuple[Example, ...]


class DatasetGroups(Record):
    """A dataset: how many of its rows are held out, and the groups of those trained on, easiest first."""

    held_out: Count
    groups: tuple[Group, ...]
    answer_tokens: Gap = math.nan
    """Target tokens of a row on average, of up to a thousand rows; NaN where rows weren't tokenised."""


class Mixture(Record):
    """The file."""

    metric: str
    """The score by which groups are cut."""
    datasets: dict[str, DatasetGroups]
    left_out: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Dataset → why rows of it could not be used → how many."""

    @cached_property
    def groups(self) -> Mapping[str, tuple[Group, ...]]:
        """Dataset → its groups."""
        return {name: rows.groups for name, rows in self.datasets.items()}
