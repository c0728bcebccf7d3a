"""Tokenised rows → the same, none longer than a model has positions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hbo.data.cache import cache_root, notes_of, stored_table
from hbo.data.tokens import IGNORED

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

_BATCH = 1000
_CUT = ("input_ids", "labels")


def cut_rows(
    data: Dataset, positions: int | None, cache_dir: Path | None = None, *, keep_end: bool = False
) -> tuple[Dataset, dict[str, int]]:
    """`data` with the start of each row that is longer than `positions` tokens, and how many these are per dataset.

    Args:
        data: Rows with `input_ids`, `labels` and `hbo_dataset`.
        positions: Tokens that a row may have; None: any number.
        cache_dir: Where the rows are kept; absent: beside the file of `data`, or under `cache_root()`.
        keep_end: Keeps the end of such rows instead.

    Raises:
        DataError: The rows can't be written.
    """
    longer: dict[str, int] = {}
    if positions is None:
        return data, longer
    for table in data.select_columns(["input_ids", "hbo_dataset"]).with_format("arrow").iter(_BATCH):
        is_longer = table["input_ids"].combine_chunks().value_lengths().to_numpy() > positions
        if is_longer.any():
            for name in np.array(table["hbo_dataset"].to_pylist(), dtype=object)[is_longer]:
                longer[name] = longer.get(name, 0) + 1
    if not longer:
        return data, longer
    folder = cache_dir or (Path(data.cache_files[0]["filename"]).parent if data.cache_files else cache_root())
    path = folder / f"cut-{positions}{'-end' * keep_end}-{data._fingerprint}.arrow"
    return stored_table(path, data.features, _tables(data, positions, keep_end), lambda: notes_of(data)), longer


def _tables(data: Dataset, positions: int, keep_end: bool) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.compute as pc

    for table in data.with_format("arrow").iter(_BATCH):
        for name in _CUT:
            at, kind = table.schema.get_field_index(name), table.schema.field(name).type
            whole = table[name].combine_chunks()
            if keep_end:
                cut = pa.array([_end(tokens, positions, name) for tokens in whole.to_pylist()], kind)
            else:
                cut = pc.list_slice(whole, 0, positions).cast(kind)
            table = table.set_column(at, name, cut)
        yield table


def _end(tokens: list[int], positions: int, name: str) -> list[int]:
    if len(tokens) <= positions:
        return tokens
    end = tokens[-positions:]
    # Nothing stands before the first token to predict it from.
    return [IGNORED, *end[1:]] if name == "labels" else end
