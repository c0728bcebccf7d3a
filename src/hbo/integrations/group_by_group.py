"""A program's own making of rows, done group by group, so that no row it makes is of two groups and each says of which.

Letters: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from datasets import Dataset

Batch = Mapping[str, list[Any]]
"""Column → its values (B,)."""

_COLUMNS = ("hbo_dataset", "hbo_level")


def group_by_group(make: Callable[[Batch], Batch], rows: Batch) -> dict[str, list[Any]]:
    """What `make` makes of the rows of each group, more or fewer of them, with the columns that name the group.

    Args:
        make: From columns to columns.
        rows: With `hbo_dataset`, `hbo_level`, both or none of them; `make` sees these too.

    Example:
        >>> rows = {"n": [1, 2, 3], "hbo_dataset": ["a", "b", "a"]}
        >>> group_by_group(lambda batch: {"sum": [sum(batch["n"])]}, rows)
        {'sum': [4, 2], 'hbo_dataset': ['a', 'b']}
    """
    kept = [name for name in _COLUMNS if name in rows]
    size = len(next(iter(rows.values()), []))
    group_B = list(zip(*(rows[name] for name in kept), strict=True)) or [()] * size
    made: dict[str, list[Any]] = {}
    for group in dict.fromkeys(group_B):
        mine = [number for number, other in enumerate(group_B) if other == group]
        found = dict(make({name: [values[number] for number in mine] for name, values in rows.items()}))
        count = len(next(iter(found.values()), []))
        found |= {name: [value] * count for name, value in zip(kept, group, strict=True)}
        for name, values in found.items():
            made.setdefault(name, []).extend(values)
    return made


def sorted_by_group(rows: Dataset) -> Dataset:
    """The rows with those of a group one after the other, so that a batch holds few groups."""
    columns = [rows[name][:] for name in reversed(_COLUMNS) if name in rows.column_names]
    return rows.select(np.lexsort([np.asarray(column) for column in columns]))
