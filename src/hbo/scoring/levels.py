"""Scores → the difficulty group of each row, dataset by dataset. Letters: N rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from hbo.core.groups import levels_by_score
from hbo.errors import DataError
from hbo.scoring.scores import Scores

_NAMED = 5  # row numbers that a warning names per reason, and datasets


def assign_levels(
    dataset_names_N: Sequence[str],
    scores: Scores,
    metric: str,
    levels: int,
    rows_N: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Each row's group (N,) in its dataset: 0 the easiest, sizes that differ by at most one, every row in one.

    Of a dataset with fewer rows than groups each row is a group, and the hardest groups have none.

    Rows are sorted by the metric, ties by row number. Rows that the metric can't score stand after all others of
    their dataset: first those whose perplexity is known (plain text has no IFD), in its order, then the rest by row
    number. So they fall into the hardest groups; a warning per dataset counts them.

    Args:
        dataset_names_N: Each row's dataset.
        scores: Each row's scores.
        metric: `ifd`, `perplexity` or `loss`; the last two give the same groups.
        levels: Groups per dataset.
        rows_N: Each row's number in its dataset (`hbo_row`), for ties and warnings; absent: its place.
    """
    names = np.asarray(dataset_names_N)
    rows = np.arange(len(names)) if rows_N is None else np.asarray(rows_N)
    value_N = scores.by(metric)
    level_N = np.zeros(len(names), dtype=np.int64)
    for name in dict.fromkeys(names.tolist()):
        mine = np.flatnonzero(names == name)
        if levels > 1 and np.isnan(value_N[mine]).any():
            warnings.warn(_unscored(name, mine, value_N, scores, metric, rows), UserWarning, stacklevel=2)
        rank = np.empty(len(mine))
        rank[_easiest_first(mine, value_N, scores, rows)] = np.arange(len(mine))
        level_N[mine] = levels_by_score(rank, min(levels, len(mine)))
    return level_N


def without_easiest(
    dataset_names_N: Sequence[str], scores: Scores, metric: str, share: float, rows_N: Sequence[int] | np.ndarray
) -> np.ndarray:
    """The numbers of the rows that are left, ascending, without the easiest `share` of each dataset's; part rows stay.

    The order, and so the other arguments, are those of `assign_levels`.
    """
    names, rows, value_N = np.asarray(dataset_names_N), np.asarray(rows_N), scores.by(metric)
    left = []
    for name in dict.fromkeys(names.tolist()):
        mine = np.flatnonzero(names == name)
        left.append(mine[_easiest_first(mine, value_N, scores, rows)[len(mine) - count_left(len(mine), share) :]])
    return np.sort(np.concatenate(left))


def count_left(count: int, share: float) -> int:
    """How many of `count` rows are left without the easiest `share` of them.

    Example:
        >>> count_left(10, 0.25)
        8
    """
    return count - int(count * share)


def _easiest_first(mine: np.ndarray, value_N: np.ndarray, scores: Scores, rows: np.ndarray) -> np.ndarray:
    # NaN sorts last, so this one order says all: metric, then loss, then row number.
    return np.lexsort((rows[mine], np.where(np.isnan(value_N), scores.loss_N, 0)[mine], value_N[mine]))


def check_level_sizes(sizes: Mapping[str, int], levels: int) -> None:
    """Warns of the datasets that have too few rows for so many groups; to be asked before the rows are scored.

    Raises:
        DataError: That is so of all of them.
    """
    if sizes and max(sizes.values()) < levels:
        shown = ", ".join(f"dataset '{name}' {count} row{'s' * (count != 1)}" for name, count in sizes.items())
        most = max(sizes.values())
        raise DataError(
            f"no dataset has rows for {levels} groups ({shown}); ask for at most {most} groups, or add rows"
        )
    few = {name: count for name, count in sizes.items() if count < levels}
    for name, count in list(few.items())[:_NAMED]:
        rows, groups = ("a single row", "one group") if count == 1 else (f"{count} rows", f"{count} groups")
        told = f"dataset '{name}' has {rows} to train on, so it gets {groups} instead of {levels}; add rows for more"
        warnings.warn(told, UserWarning, stacklevel=2)
    if len(few) > _NAMED:
        warnings.warn(f"{len(few) - _NAMED} more datasets get fewer groups too", UserWarning, stacklevel=2)


def _unscored(name: str, mine: np.ndarray, value_N: np.ndarray, scores: Scores, metric: str, rows: np.ndarray) -> str:
    missing = mine[np.isnan(value_N[mine])]
    empty = scores.tokens_N[missing] == 0
    lost = np.isnan(scores.loss_N[missing]) & ~empty
    no_alone = np.isnan(scores.loss_alone_N[missing]) & ~empty & ~lost
    reasons = {
        "no instruction": no_alone,
        "no response left after truncation": empty,
        "no finite loss under the scorer": lost,
        "a response that is certain without its instruction": ~(empty | lost | no_alone),
    }
    parts = []
    for reason, is_so in reasons.items():
        if count := int(is_so.sum()):
            numbers = map(str, np.sort(rows[missing[is_so]])[:_NAMED].tolist())
            more = ", …" if count > _NAMED else ""
            parts.append(f"{count} with {reason}: row{'s' * (count != 1)} {', '.join(numbers)}{more}")
    label = "IFD" if metric == "ifd" else metric
    return (
        f"dataset '{name}': {label} can't score {len(missing)} of {len(mine)} rows ({'; '.join(parts)}); they are "
        "sorted behind the others, by perplexity where it is known, and so fall into the hardest groups"
    )
