"""What a trainer's rows say of their datasets and levels, and which of them a reward keeps back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from datasets import Dataset

from hbo.arrays import Ints
from hbo.config import HBOConfig
from hbo.config.rewards import needs
from hbo.core.groups import Groups, rows_of
from hbo.core.keys import Purpose, generator
from hbo.errors import DataError
from hbo.rewards.examples import example_counts
from hbo.scoring.copies import token_hashes
from hbo.training.trainer_rows import row_lengths

_BATCH = 1 << 20
_HIGHEST = 1023  # as difficulty.groups has it
_SHARE_ASIDE, _LEAST_ASIDE, _MOST_ASIDE = 0.05, 8, 0.1


def groups_of(rows: Dataset) -> Groups:
    """The groups that the columns `hbo_dataset` and `hbo_level` of a trainer's rows describe.

    Raises:
        DataError: A column is missing or of a wrong type.
    """
    columns = rows.column_names
    if "hbo_dataset" not in columns:
        raise DataError(
            f"the training rows have no column hbo_dataset (columns: {', '.join(columns)}); make them with "
            "hbo.build_mixture"
        )
    wanted = [name for name in ("hbo_dataset", "hbo_level") if name in columns]
    number: dict[str, int] = {}
    code_N, level_N = np.zeros(len(rows), dtype=np.int16), np.zeros(len(rows), dtype=np.int16)
    done = 0
    for table in rows.select_columns(wanted).with_format("arrow").iter(_BATCH):
        _check_columns(table)
        encoded = table["hbo_dataset"].combine_chunks().dictionary_encode()
        here = [number.setdefault(name, len(number)) for name in encoded.dictionary.to_pylist()]
        stop = done + len(table)
        code_N[done:stop] = np.array(here, dtype=np.int16)[encoded.indices.to_numpy()]
        if "hbo_level" in columns:
            level_N[done:stop] = table["hbo_level"].to_numpy()
        done = stop
    return Groups.from_codes(
        tuple(number), code_N, level_N, length_N=row_lengths(rows), examples_N=example_counts(rows)
    )


def _check_columns(table: pa.Table) -> None:
    if empty := [name for name in table.column_names if table[name].null_count]:
        raise DataError(f"column {empty[0]} of the training rows has empty places; every row needs a value")
    kinds = {name: str(table.schema.field(name).type) for name in table.column_names}
    if "string" not in kinds["hbo_dataset"] or not kinds.get("hbo_level", "int64").startswith(("int", "uint")):
        raise DataError(f"hbo_dataset must be text and hbo_level whole numbers, but the training rows hold {kinds}")
    if "hbo_level" in kinds:
        level_B = table["hbo_level"].to_numpy()
        if level_B.min() < 0 or level_B.max() > _HIGHEST:
            raise DataError(f"column hbo_level holds {level_B.min()} to {level_B.max()}; levels are 0 to {_HIGHEST}")


def drawn_groups(rows: Dataset, config: HBOConfig, seed: int) -> tuple[Groups, list[Ints]]:
    """The groups that training draws from, and the rows of each dataset that are set aside for a reward (else none).

    These are 5% of a dataset and at least 8, but never more than 10%, and at least one, chosen by the seed. Copies of
    them are not drawn either, in whatever dataset they stand, unless they are more than half of that dataset.

    Raises:
        DataError: As `groups_of`; or a dataset has a single row, of which none can be set aside; or rows are packed.
    """
    groups = groups_of(rows)
    if "dev_rows" not in needs(config.global_reward):
        return groups, []
    check_aside(dict(zip(groups.datasets, groups.sizes_K.tolist(), strict=True)), config)
    dev_K = []
    for k in range(len(groups.datasets)):
        own = rows_of(groups, k)
        wanted = max(_LEAST_ASIDE, math.ceil(_SHARE_ASIDE * len(own)))
        count = min(wanted, max(1, math.floor(_MOST_ASIDE * len(own))))
        dev_K.append(np.sort(generator(seed, Purpose.ASIDE, k).choice(own, count, replace=False)))
    return groups.without(np.concatenate([*dev_K, *_copies(rows, groups, dev_K)])), dev_K


def _copies(rows: Dataset, groups: Groups, dev_K: list[Ints]) -> Iterator[Ints]:
    """The rows of each dataset that are copies of some that are set aside, by their tokens."""
    if "input_ids" not in rows.column_names:
        return
    hash_N = token_hashes(rows)
    aside = np.unique(hash_N[np.concatenate(dev_K)])
    for k in range(len(groups.datasets)):
        own = rows_of(groups, k)
        copies = own[np.isin(hash_N[own], aside)]
        if 2 * len(copies) <= len(own):
            yield copies


def check_aside(sizes: Mapping[str, int], config: HBOConfig) -> None:
    """Refuses a dataset of which no row can be set aside for a reward that needs it.

    Raises:
        DataError: It has a single row.
    """
    small = [name for name, size in sizes.items() if size < 2]
    if small and "dev_rows" in needs(config.global_reward):
        raise DataError(
            f"dataset '{small[0]}' has a single row to train on, but the reward {config.global_reward} sets some "
            "rows of each dataset aside; add rows, or choose another method"
        )
