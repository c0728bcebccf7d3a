"""The rows that ms-swift trains on, each with the name of its dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from datasets.fingerprint import Hasher
from swift.dataset import LazyLLMDataset, RowPreprocessor
from transformers import Trainer

from hbo.arrays import Ints
from hbo.atomic import atomic_path
from hbo.config.data import stem
from hbo.errors import ConfigError, DataError, ResumeError
from hbo.training.trainer_rows import LENGTH

SWIFT_LEVELS = "hbo_levels.npy"
"""Beside the checkpoints: the level of each row. A run that goes on can't score again, because ms-swift has put the
trained adapter into the model by then."""


def named_rows(trainer: Trainer) -> Dataset:
    """The trainer's rows with `hbo_dataset`: as tokens where these are all that there is, else encoded when drawn.

    Raises:
        ConfigError: A row may stand for another one.
        DataError: The rows are a stream, or don't say where they come from.
    """
    rows, template = trainer.train_dataset, trainer.template
    if isinstance(rows, Dataset):  # encoded already (truncation_strategy split)
        return rows.add_column("hbo_dataset", swift_names(rows))
    if not isinstance(rows, LazyLLMDataset):
        raise DataError(
            f"HBO draws rows by their number, which isn't possible with {type(rows).__name__}; leave out --streaming"
        )
    raw, encode = rows.dataset, rows.encode_func
    if not rows.strict and "lengths" not in raw.column_names:
        raise ConfigError(
            "lazy_tokenize puts a random row of any dataset in the place of a row that can't be encoded; set "
            "--lazy_tokenize false, or --strict true to stop at such a row"
        )

    def encoded(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return RowPreprocessor.rows_to_batched(  # type: ignore[no-any-return]
            [encode(row, return_length=True) for row in RowPreprocessor.batched_to_rows(batch)]
        )

    names = swift_names(raw)
    if template.mode == "train" and not template.model_meta.is_multimodal:
        # With a fingerprint of our own, since the template, which holds the model, would be read for one.
        made = Hasher.hash([raw._fingerprint, "hbo"])
        tokens = raw.map(
            encoded,
            batched=True,
            remove_columns=raw.column_names,
            load_from_cache_file=False,
            new_fingerprint=made,
            desc="HBO: tokens",
        )
        return tokens.add_column("hbo_dataset", names)
    named = raw.add_column("hbo_dataset", names)
    if "lengths" in raw.column_names:
        lengths = [sum(each) if isinstance(each, list) else each for each in raw["lengths"]]
        named = named.add_column(LENGTH, lengths)
    return named.with_transform(encoded)


def swift_names(rows: Dataset) -> list[str]:
    """The dataset of each row: its `channel`, else what it was loaded from; of a file its name, if no two are alike.

    Raises:
        DataError: A row has neither.
    """
    nothing = [None] * len(rows)
    channels, sources = (rows[name][:] if name in rows.column_names else nothing for name in ("channel", "dataset"))
    given = dict.fromkeys(source for source in sources if source is not None)
    short = {source: stem(source) if Path(source).exists() else source for source in given}
    if len(set(short.values())) < len(short):
        short = {source: source for source in given}
    names: list[str] = [short.get(s, "") if c is None else str(c) for c, s in zip(channels, sources, strict=True)]
    if "" in names:
        raise DataError(
            f"row {names.index('')} has no channel, and ms-swift doesn't say where it was loaded from; give the rows "
            "a column channel with the name of their dataset"
        )
    return names


def save_levels(folder: Path, rows: Dataset) -> None:
    """Keeps the levels of a run in its output folder."""
    level_N = np.asarray(rows.with_format(None)["hbo_level"][:], dtype=np.int16)
    with atomic_path(folder / SWIFT_LEVELS) as temporary, temporary.open("wb") as file:
        np.save(file, level_N)


def saved_levels(checkpoint: Path, count: int) -> Ints:
    """The level of each of `count` rows in the run that made this checkpoint.

    Raises:
        ResumeError: They are not there, or are those of other rows.
    """
    file = checkpoint.resolve().parent / SWIFT_LEVELS
    if not file.is_file():
        raise ResumeError(f"{file}: no such file; it holds the rows' levels, so keep it beside the run's checkpoints")
    level_N: Ints = np.load(file).astype(np.int64)
    if len(level_N) != count:
        raise ResumeError(
            f"{file}: the run began with {len(level_N)} rows, but there are {count} now; put its former rows back to "
            "resume, or begin a new run"
        )
    return level_N
