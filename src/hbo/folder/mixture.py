"""`mixture.json`: what a run is trained on, group by group, with a few rows to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from pydantic import Field

from hbo.atomic import write_file
from hbo.folder.paths import MIXTURE
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


class Rows(Record):
    """A dataset: how many of its rows are held out, and the groups of those trained on, easiest first."""

    held_out: Count
    groups: tuple[Group, ...]


class Mixture(Record):
    """The file."""

    metric: str
    """The score by which groups are cut."""
    datasets: dict[str, Rows]
    left_out: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Dataset → why rows of it could not be used → how many."""

    @cached_property
    def groups(self) -> Mapping[str, tuple[Group, ...]]:
        """Dataset → its groups."""
        return {name: rows.groups for name, rows in self.datasets.items()}


def write_mixture(folder: Path, mixture: Mixture) -> None:
    """Writes the file.

    Raises:
        DataError: It can't be written.
    """
    write_file(folder / MIXTURE, mixture.to_json())


def read_mixture(file: Path) -> Mixture | None:
    """The mixture, or None when the run has written none.

    Raises:
        DataError: The file isn't JSON, or a value has the wrong type; the place is named.
    """
    return Mixture.read(file)
