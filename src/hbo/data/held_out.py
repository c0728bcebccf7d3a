"""Which rows belong to which dataset, and which of them are used: held-out rows, a share of them, no more than some.

Rows are chosen by a random number that depends on the seed, the dataset and the row alone. So what is chosen of one
dataset doesn't change with the others, and of one seed a smaller choice is a part of a larger one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
import xxhash
from datasets import Dataset

from hbo.arrays import Ints, Words
from hbo.core.keys import GOLDEN, mixed
from hbo.errors import ConfigError

_BATCH = 100_000
_NAMED = 5  # datasets that are warned of by name


def hold_out(data: Dataset, eval_fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """The rows to train on and the held-out ones; each dataset gives its share, at least one row unless it is 0.

    Of a dataset of a single row none is held out, with a warning.

    Raises:
        ConfigError: `eval_fraction` is not in [0, 1).
    """
    if not 0 <= eval_fraction < 1:
        raise ConfigError(f"eval_fraction is {eval_fraction}, but must be at least 0 and below 1")
    held_out: list[int] = []
    single: list[str] = []
    if eval_fraction:
        for name, (positions, rows) in _positions(data).items():
            single += [name] if len(rows) == 1 else []
            chosen = np.argsort(_keys(seed, name, rows), kind="stable")[: count_held_out(len(rows), eval_fraction)]
            held_out.extend(positions[chosen].tolist())
    for name in single[:_NAMED]:
        told = f"dataset '{name}': its only row is trained on, so none is held out; add rows"
        warnings.warn(told, UserWarning, stacklevel=2)
    if len(single) > _NAMED:
        warnings.warn(f"{len(single) - _NAMED} more datasets have a single row too", UserWarning, stacklevel=2)
    is_held_out = np.zeros(len(data), dtype=bool)
    is_held_out[held_out] = True
    return data.select(np.flatnonzero(~is_held_out)), data.select(np.flatnonzero(is_held_out))


def fraction_of(data: Dataset, fraction: float, seed: int) -> Dataset:
    """This share of each dataset's rows, at least one."""
    if fraction == 1:
        return data
    return _chosen(data, lambda name, size: count_used(size, fraction), "part", seed)


def at_most(data: Dataset, limits: Mapping[str, int], seed: int) -> Dataset:
    """No more rows of a dataset than its limit; that of `a` is also the limit of each of its parts `a/…`."""

    def limit_of(name: str, size: int) -> int:
        own = [limit for entry, limit in limits.items() if name == entry or name.startswith(f"{entry}/")]
        return min([size, *own])

    if all(limit_of(name, size) == size for name, size in dataset_sizes(data).items()):
        return data
    return _chosen(data, limit_of, "most", seed)


def count_held_out(rows: int, eval_fraction: float) -> int:
    """How many of a dataset's rows are held out, at least one of them being left to train on.

    Example:
        >>> count_held_out(1000, 0.05), count_held_out(3, 0.05), count_held_out(3, 0)
        (50, 1, 0)
    """
    return min(max(1, round(eval_fraction * rows)), rows - 1) if eval_fraction else 0


def count_used(rows: int, fraction: float) -> int:
    """How many of the rows to train on are used.

    Example:
        >>> count_used(1000, 0.2), count_used(3, 0.1)
        (200, 1)
    """
    return max(1, round(fraction * rows))


def _chosen(data: Dataset, count: Callable[[str, int], int], purpose: str, seed: int) -> Dataset:
    chosen = [
        positions[np.argsort(_keys(seed, f"{purpose} of {name}", rows), kind="stable")[: count(name, len(rows))]]
        for name, (positions, rows) in _positions(data).items()
    ]
    return data.select(np.sort(np.concatenate(chosen)))


def dataset_sizes(data: Dataset) -> dict[str, int]:
    """Rows per dataset, in the order in which the datasets first appear, which is that of the configuration."""
    sizes: dict[str, int] = {}
    for batch in data.select_columns(["hbo_dataset"]).with_format("arrow").iter(_BATCH):
        for entry in batch["hbo_dataset"].value_counts().to_pylist():
            sizes[entry["values"]] = sizes.get(entry["values"], 0) + entry["counts"]
    return sizes


def dataset_names(data: Dataset) -> list[str]:
    """The datasets of `data`, in the order in which they first appear."""
    return list(dataset_sizes(data))


def _positions(data: Dataset) -> dict[str, tuple[Ints, Ints]]:
    """Dataset → where its rows stand in `data`, and their numbers in the source."""
    found: dict[str, list[tuple[Ints, Ints]]] = {}
    start = 0
    for batch in data.select_columns(["hbo_dataset", "hbo_row"]).with_format("arrow").iter(_BATCH):
        names = batch["hbo_dataset"].combine_chunks().dictionary_encode()
        codes, rows = names.indices.to_numpy(), batch["hbo_row"].to_numpy()
        for code, name in enumerate(names.dictionary.to_pylist()):
            (at,) = np.nonzero(codes == code)
            found.setdefault(name, []).append((start + at, rows[at]))
        start += len(batch)
    return {
        name: (np.concatenate([at for at, _ in parts]), np.concatenate([rows for _, rows in parts]))
        for name, parts in found.items()
    }


def _keys(seed: int, name: str, rows: Ints) -> Words:
    """A random number per row that depends on seed, dataset and row number alone (SplitMix64)."""
    base = np.uint64(xxhash.xxh3_64_intdigest(f"{seed}/{name}".encode()))
    return mixed(base + (rows.astype(np.uint64) + 1) * GOLDEN)
