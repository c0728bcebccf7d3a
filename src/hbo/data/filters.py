"""Which rows of a source are wanted: those whose columns have the values that `where` asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hbo.errors import DataError, nearest
from hbo.section import truth

if TYPE_CHECKING:
    import pyarrow as pa

Scalar = str | bool | int | float
Wanted = Mapping[str, Scalar | Sequence[Scalar]]
"""Column → the value, or one of the values, that a row must have there."""


def is_wanted(row: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether each column of `wanted` holds the value, or one of the values, asked for.

    Args:
        row: A row of the source, its columns as they are named there; one that it lacks is null.
        wanted: What is asked for.

    Example:
        >>> is_wanted({"language": "Hindi"}, {"language": ["English", "Hindi"]})
        True
    """
    return all(any(_same(row.get(column), value) for value in _several(values)) for column, values in wanted.items())


def check_columns(seen: Collection[str], wanted: Wanted, place: str) -> None:
    """Refuses to choose by a column that no row has.

    Args:
        seen: The columns that rows have.
        wanted: What is asked for.
        place: Where they stand, for the error.

    Raises:
        DataError: One isn't among them.
    """
    for column in wanted:
        if column not in seen:
            raise DataError(
                f"{place}: no column '{column}', by which `where` chooses{nearest(column, seen)}; columns seen: "
                f"{', '.join(map(str, seen)) or 'none'}"
            )


def wanted_rows(table: pa.Table, wanted: Wanted | None, place: str) -> tuple[list[int], pa.Table]:
    """The numbers of the wanted rows of `table`, and these rows.

    Raises:
        DataError: The table has no such column.
    """
    import pyarrow as pa

    if not wanted:
        return list(range(len(table))), table
    check_columns(table.column_names, wanted, place)
    # Only these columns become Python values for every row: the others may hold long conversations.
    numbers = [i for i, row in enumerate(table.select(list(wanted)).to_pylist()) if is_wanted(row, wanted)]
    return numbers, table.take(pa.array(numbers, pa.int64()))


def shown_wanted(wanted: Wanted) -> str:
    """What is asked for, in words.

    Raises:
        Nothing.

    Example:
        >>> shown_wanted({"language": ["English", "Hindi"], "toxic": False})
        "language is 'English' or 'Hindi', toxic is False"
    """
    return ", ".join(f"{column} is {' or '.join(map(repr, _several(values)))}" for column, values in wanted.items())


def _several(values: Scalar | Sequence[Scalar]) -> Sequence[Scalar]:
    return [values] if isinstance(values, str | bool | int | float) else values


def _same(found: Any, value: Scalar) -> bool:
    # 1 and true are equal to Python, but not to whoever wrote them. Where a column holds truths, `no` is one of them.
    if isinstance(found, bool):
        return found is truth(value)
    return bool(found == value) and not isinstance(value, bool)
