"""Rows packed within their group: a packed row still belongs to one dataset and level, so that it can be balanced.

The packing itself is TRL's best-fit decreasing (Ding et al. 2024, arXiv 2404.10830), done group by group.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from datasets import (
    Dataset,
    Features,
    Value,
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from datasets.table import InMemoryTable
from transformers import Trainer

from hbo.arrays import Ints
from hbo.compat import list_of
from hbo.core.groups import Groups
from hbo.data.cache import cache_root, stored_table
from hbo.errors import ConfigError, DataError
from hbo.progress import Track, silent
from hbo.rewards.examples import PACKED
from hbo.scoring.batches import lengths
from hbo.scoring.fingerprint import content_fingerprint
from hbo.training.groups import groups_of

if TYPE_CHECKING:
    from trl import SFTConfig

_BATCH = 4096  # rows of a group that are packed together
_VERSION = "1"  # part of the cache file's name: raise it when the same rows are packed otherwise
_TOKENS = ("input_ids", "labels")


def pack_within_groups(
    rows: Dataset, max_length: int, *, track: Track = silent, cache_dir: Path | None = None
) -> Dataset:
    """Rows of up to `max_length` tokens, each made of whole examples of one group, memory-mapped.

    They have the columns `input_ids`, `labels`, `seq_lengths` (tokens of each example), `hbo_dataset`, `hbo_level`,
    `hbo_example` (which rows of `rows` they are made of) and, if `rows` has it, `hbo_reference`. The result is cached
    in `cache_dir` (absent: `cache_root()`) and reused when the same rows are packed to the same length.

    Give the packed rows to SFTTrainer with `packing=True` and `dataset_kwargs={"skip_prepare_dataset": True}`.

    Args:
        rows: Rows with `input_ids`, `labels`, `hbo_dataset` and, if there are groups, `hbo_level`.
        max_length: Tokens that a row may have.
        track: Called for each example, to show progress.
        cache_dir: Where the packed rows are stored.

    Raises:
        DataError: A column is missing, or a row is longer than `max_length`.

    Example:
        >>> import tempfile
        >>> one = {"input_ids": [1, 2], "labels": [-100, 2], "hbo_dataset": "a"}
        >>> packed = pack_within_groups(Dataset.from_list([one] * 3), 4, cache_dir=Path(tempfile.mkdtemp()))
        >>> sorted(packed["seq_lengths"])
        [[2], [2, 2]]
    """
    if missing := [name for name in _TOKENS if name not in rows.column_names]:
        raise DataError(
            f"the rows have no column {missing[0]}, so they can't be packed; give build_mixture a tokenizer"
        )
    groups = groups_of(rows)
    length_N = lengths(rows)
    if length_N.max() > max_length:
        raise DataError(
            f"row {int(length_N.argmax())} has {length_N.max()} tokens, but packed rows hold {max_length} and no "
            "example is cut; raise max_length, or give build_mixture this max_length"
        )
    kinds: dict[str, Any] = {name: list_of(Value("int32")) for name in (*_TOKENS, PACKED)}
    kinds |= {"hbo_dataset": Value("string"), "hbo_level": Value("int64"), "hbo_example": list_of(Value("int64"))}
    if "hbo_reference" in rows.column_names:
        kinds["hbo_reference"] = list_of(Value("float64"))
    columns = [name for name in (*_TOKENS, "hbo_dataset", "hbo_level", "hbo_reference") if name in rows.column_names]
    key = xxhash.xxh3_128_hexdigest(f"{_VERSION}-{content_fingerprint(rows, columns)}-{max_length}".encode())
    path = (cache_dir or cache_root()) / f"packed-{key}.arrow"
    return stored_table(path, Features(kinds), _tables(rows, groups, max_length, track))


def as_drawn(rows: Dataset, args: SFTConfig, track: Track = silent) -> Dataset:
    """The rows that a run with these arguments draws: `rows` themselves, or packed.

    Raises:
        DataError: A row is longer than `max_length`.
    """
    return pack_within_groups(rows, int(args.max_length), track=track) if args.packing else rows


def pack_trainer(trainer: Trainer, *, track: Track = silent) -> None:
    """Packs the rows that an SFTTrainer has prepared, each group by itself, and lets it load them without padding.

    This stands for SFTConfig's `packing=True`, which packs across groups and loses whose rows they are. Leave that out,
    keep `max_length`, and call this before HBOCallback is made.

    Args:
        trainer: It prepares rows of text, with a column `hbo_dataset`, as it always does.
        track: Hears of each example.

    Raises:
        ConfigError: The trainer packs itself, loads its rows in another way, or has no `max_length`.
        DataError: A column is missing, or a row is longer than `max_length`.
    """
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    args, collator, name = trainer.args, trainer.data_collator, type(trainer).__name__
    if getattr(args, "packing", False):
        raise ConfigError(f"{name} has packed its rows already, across groups; leave packing out, and call this again")
    if not isinstance(collator, DataCollatorForLanguageModeling):
        raise ConfigError(
            f"{name} loads its rows with {type(collator).__name__}, which can't load packed ones; leave data_collator "
            "out, or don't pack"
        )
    if args.max_length is None:
        raise ConfigError("packing needs a length to pack to; set max_length")
    trainer.train_dataset = pack_within_groups(trainer.train_dataset, args.max_length, track=track)
    trainer.data_collator = replace(collator, padding_free=True)
    trainer.padding_free = args.padding_free = True


def _tables(rows: Dataset, groups: Groups, max_length: int, track: Track) -> Iterator[pa.Table]:
    beside = [name for name in ("hbo_reference",) if name in rows.column_names]
    plain = rows.select_columns([*_TOKENS, *beside]).with_format("arrow")
    with track("packing", len(rows)) as advance, _without_bars():
        for k, name in enumerate(groups.datasets):
            for level in range(groups.levels):
                row_C = groups.rows(k, level)
                for first in range(0, len(row_C), _BATCH):
                    row_B = row_C[first : first + _BATCH]
                    packed = _packed(plain.select(row_B)[:], row_B, max_length)
                    packed["hbo_dataset"] = pa.array([name] * len(packed[PACKED]))
                    packed["hbo_level"] = pa.array(np.full(len(packed[PACKED]), level))
                    columns = ("input_ids", "labels", PACKED, "hbo_dataset", "hbo_level", "hbo_example", *beside)
                    yield pa.table({column: packed[column] for column in columns})
                    advance(len(row_B))


def _packed(table: pa.Table, row_B: Ints, max_length: int) -> dict[str, pa.Array]:
    """The packed rows of one batch, column by column."""
    ids = table["input_ids"].combine_chunks()
    length_B = pc.list_value_length(ids).to_numpy()
    if not pc.list_value_length(table["labels"].combine_chunks()).equals(pc.list_value_length(ids)):
        raise DataError("a row has more or fewer labels than tokens; give every token its label, or -100")
    offsets = pa.array(np.concatenate([[0], np.cumsum(length_B)]).astype(np.int32))
    # TRL keeps the columns of tokens only and says nothing of whose they are, so each token carries its example along.
    whose = pa.ListArray.from_arrays(offsets, pa.array(np.repeat(np.arange(len(row_B)), length_B)))
    tokens = InMemoryTable(pa.table({"input_ids": ids, "labels": table["labels"].combine_chunks(), "whose": whose}))
    options = {"batch_size": None, "new_fingerprint": "packed", "load_from_cache_file": False}
    from trl.data_utils import pack_dataset

    packed = pack_dataset(Dataset(tokens), max_length, "bfd", map_kwargs=options).with_format("arrow")[:]
    lengths = packed[PACKED].combine_chunks()
    part_E = lengths.flatten().to_numpy()
    example_E = packed["whose"].combine_chunks().flatten().to_numpy()[np.cumsum(part_E) - part_E]
    found = {name: packed[name].combine_chunks() for name in (*_TOKENS, PACKED)}
    found["hbo_example"] = pa.ListArray.from_arrays(lengths.offsets, pa.array(row_B[example_E]))
    if "hbo_reference" in table.column_names:
        reference = table["hbo_reference"].combine_chunks().take(pa.array(example_E))
        found["hbo_reference"] = pa.ListArray.from_arrays(lengths.offsets, reference)
    return found


@contextmanager
def _without_bars() -> Iterator[None]:
    # TRL packs with `map`, which would show a bar for every batch.
    was_off = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not was_off:
            enable_progress_bars()
