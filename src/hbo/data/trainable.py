"""Tokenised rows → those that can be trained on, none longer than a model has positions; and why others can't be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from hbo.data.cache import folder_beside, notes_of, stored_table
from hbo.data.notes import accounts_of
from hbo.data.tokens import IGNORED, drop_without_target, refused
from hbo.data.unusable import Counted, count_rows, counted_rows, reasons_told
from hbo.errors import DataError

_BATCH = 1000


def without_unusable(data: Dataset, max_length: int | None) -> tuple[Dataset, dict[str, Counted]]:
    """The rows of `data` that have a target, and dataset → why the others have none → how many, and the first.

    Args:
        data: Rows as `tokenize` gives them.
        max_length: At which they were cut; None: nowhere.
    """
    kept, dropped = drop_without_target(data)
    lost: dict[str, Counted] = {name: {} for name in dropped}
    for name, counted in refused(data).items():
        for reason, (rows, first) in counted.items():
            count_rows(lost.setdefault(name, {}), reason, first, rows)
    within = "" if max_length is None else f" within max_length {max_length}"
    for name, rows_of in dropped.items():
        if cut := len(rows_of) - counted_rows(lost[name]):
            firsts = {first for _, first in lost[name].values()}
            places = [f"row {row}" for row in rows_of]
            first = next((place for place in places if place not in firsts), places[0])
            count_rows(lost[name], f"no response token is left{within}", first, cut)
    return kept, lost


def left_out_of(mixture: Dataset, lost: Iterable[Mapping[str, Counted]]) -> dict[str, dict[str, int]]:
    """Dataset → why rows of it are left out → how many, from reading them and from their tokens.

    Args:
        mixture: Rows as `read_mixture` gives them.
        lost: As `without_unusable` gives it, of one table or several.
    """
    found: dict[str, Counter[str]] = {}
    read = [{account.dataset: account.unusable} for account in accounts_of(mixture)]
    for each in (*read, *lost):
        for name, counted in each.items():
            found.setdefault(name, Counter()).update({reason: rows for reason, (rows, _) in counted.items()})
    return {name: dict(reasons) for name, reasons in found.items() if reasons}


def refuse_empty(names: Iterable[str], sizes: Mapping[str, int], lost: Mapping[str, Counted]) -> None:
    """Refuses a dataset of which no row can be used, by the rows that are left and why others are not.

    Raises:
        DataError: There is such a dataset among those named.
    """
    for name in names:
        if not sizes.get(name):
            reasons = lost.get(name, {})
            raise DataError(
                f"dataset '{name}': none of its {counted_rows(reasons)} rows to train on can be used: "
                f"{reasons_told(reasons)}; change the rows, raise max_length if that is why, or leave the dataset out"
            )


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
    longer = Counter[str]()
    if positions is None:
        return data, longer
    for table in data.select_columns(["input_ids", "hbo_dataset"]).with_format("arrow").iter(_BATCH):
        is_longer = pc.greater(pc.list_value_length(table["input_ids"]), positions)
        longer.update(table["hbo_dataset"].filter(is_longer).to_pylist())
    if not longer:
        return data, longer
    path = folder_beside(data, cache_dir) / f"cut-{positions}{'-end' * keep_end}-{data._fingerprint}.arrow"
    return stored_table(path, data.features, _tables(data, positions, keep_end), lambda: notes_of(data)), longer


def _tables(data: Dataset, positions: int, keep_end: bool) -> Iterator[pa.Table]:
    for table in data.with_format("arrow").iter(_BATCH):
        for name in ("input_ids", "labels"):
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
