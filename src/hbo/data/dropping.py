"""Tokenised rows without those that can't be trained on, and why they can't."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hbo.data.notes import accounts_of
from hbo.data.tokens import drop_without_target, refused
from hbo.data.unusable import Counted, count, shown, total
from hbo.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


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
            count(lost.setdefault(name, {}), reason, first, rows)
    within = "" if max_length is None else f" within max_length {max_length}"
    for name, rows_of in dropped.items():
        if cut := len(rows_of) - total(lost[name]):
            firsts = {first for _, first in lost[name].values()}
            places = [f"row {row}" for row in rows_of]
            first = next((place for place in places if place not in firsts), places[0])
            count(lost[name], f"no response token is left{within}", first, cut)
    return kept, lost


def left_out_of(mixture: Dataset, lost: Iterable[Mapping[str, Counted]]) -> dict[str, dict[str, int]]:
    """Dataset → why rows of it are left out → how many, from reading them and from their tokens.

    Args:
        mixture: Rows as `read_mixture` gives them.
        lost: As `without_unusable` gives it, of one table or several.
    """
    found: dict[str, dict[str, int]] = {}
    read = [{account.dataset: account.unusable} for account in accounts_of(mixture)]
    for each in (*read, *lost):
        for name, counted in each.items():
            reasons = found.setdefault(name, {})
            for reason, (rows, _) in counted.items():
                reasons[reason] = reasons.get(reason, 0) + rows
    return {name: reasons for name, reasons in found.items() if reasons}


def refuse_empty(names: Iterable[str], sizes: Mapping[str, int], lost: Mapping[str, Counted]) -> None:
    """Refuses a dataset of which no row can be used.

    Args:
        names: Datasets that must have rows.
        sizes: Dataset → rows that are left.
        lost: Dataset → why others are not.

    Raises:
        DataError: There is such a dataset.
    """
    for name in names:
        if not sizes.get(name):
            reasons = lost.get(name, {})
            raise DataError(
                f"dataset '{name}': none of its {total(reasons)} rows to train on can be used: {shown(reasons)}; "
                "change the rows, raise max_length if that is why, or leave the dataset out"
            )
