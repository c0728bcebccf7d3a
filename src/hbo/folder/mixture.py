"""`mixture.json`: what a run is trained on, group by group, with a few rows to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbo.errors import DataError
from hbo.folder.metrics import read_object

FILE = "mixture.json"


@dataclass(frozen=True)
class Example:
    """One row, its texts cut short."""

    row: int
    score: float
    prompt: str
    response: str


@dataclass(frozen=True)
class Group:
    """A difficulty group: its rows, the scores between which they lie (NaN without scores), some of the rows."""

    rows: int
    low: float
    high: float
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Mixture:
    """The training rows of each dataset by group, easiest first, and how many rows are held out."""

    metric: str
    groups: Mapping[str, tuple[Group, ...]]
    held_out: Mapping[str, int]


def read_mixture_file(file: Path) -> Mixture | None:
    """The mixture, or None when the run has written none.

    Raises:
        DataError: The file isn't JSON, or a value has the wrong type; the place is named.
    """
    data = read_object(file)
    if data is None:
        return None
    groups, held_out = {}, {}
    for name, entry in _typed(data, "datasets", dict, str(file)).items():
        where = f"{file}: dataset '{str(name)[:40]}'"
        held_out[str(name)] = _typed(_typed({"entry": entry}, "entry", dict, where), "held_out", int, where)
        groups[str(name)] = tuple(_group(row, where) for row in _typed(entry, "groups", list, where))
    return Mixture(_typed(data, "metric", str, str(file)), groups, held_out)


def _group(row: Any, where: str) -> Group:
    row = _typed({"group": row}, "group", dict, where)
    examples = []
    for each in _typed(row, "examples", list, where):
        found = _typed({"example": each}, "example", dict, where)
        texts = [_typed(found, key, str, where) for key in ("prompt", "response")]
        examples.append(Example(_typed(found, "row", int, where), _score(found, "score", where), *texts))
    rows = _typed(row, "rows", int, where)
    return Group(rows, _score(row, "low", where), _score(row, "high", where), tuple(examples))


def _score(data: Mapping[str, Any], key: str, where: str) -> float:
    return math.nan if data.get(key) is None else float(_typed(data, key, (int, float), where))


def _typed(data: Mapping[str, Any], key: str, kind: Any, where: str) -> Any:
    value = data.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{where}: '{key}' is missing or of the wrong type; remove the file, or run again")
    return value
