"""HBO put into a trainer that another program has made of rows with the column `hbo_dataset`.

Levels come from the tokens that the trainer has, whoever made them: the program's own template stays the user's.
Letters: N rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from datasets import Dataset
from transformers import Trainer

from hbo.data.tokens import IGNORED, opening
from hbo.errors import ConfigError
from hbo.integrations.section import TrainerDifficulty, TrainerSection
from hbo.scoring.devices import device_of, is_partitioned, scoring_autocast
from hbo.scoring.levels import assign_levels, check_level_sizes
from hbo.scoring.measure import score
from hbo.scoring.processes import Processes
from hbo.scoring.scores import Scores
from hbo.training.callback import HBOCallback
from hbo.training.checks import check_trainer
from hbo.training.own_columns import WithoutOurColumns
from hbo.training.trainer_rows import row_lengths

_BATCH = 1000


def attach(
    trainer: Trainer,
    section: TrainerSection,
    *,
    regroup: Callable[[Dataset], Dataset] | None = None,
    unseen: Sequence[str] = (),
) -> HBOCallback:
    """The callback that balances the trainer's rows, which it is given, and they their levels.

    Args:
        trainer: Not yet training.
        section: The user's settings.
        regroup: Makes the rows to train on out of those with levels, for instance by packing them.
        unseen: Columns that the trainer's collator must not be given, beside those of HBO's own.

    Raises:
        HBOError: The trainer or its rows can't be balanced as asked for.
    """
    check_trainer(trainer, section)  # before hours of scoring
    rows = with_levels(trainer, section.difficulty)
    trainer.train_dataset = rows if regroup is None else regroup(rows)
    trainer.data_collator = WithoutOurColumns(trainer.data_collator, unseen)
    callback = HBOCallback(trainer, section, weights=section.weights, max_passes=section.max_passes, seed=section.seed)
    trainer.add_callback(callback)
    return callback


def with_levels(trainer: Trainer, difficulty: TrainerDifficulty) -> Dataset:
    """The trainer's rows with `hbo_level`, by their length or by what its model makes of their tokens.

    Raises:
        ConfigError: The rows have nothing to be scored by.
        DataError: No dataset has as many rows as groups.
        ModelError: The model can't be given the rows.
    """
    rows: Dataset = trainer.train_dataset
    names = rows.with_format(None)["hbo_dataset"][:]
    if difficulty.groups == 1 or "hbo_level" in rows.column_names:  # whoever has made them may know them
        return rows
    check_level_sizes(Counter(names), difficulty.groups)
    metric, length_N = difficulty.metric, row_lengths(rows)
    lacking = {"input_ids", "labels"} - set(rows.column_names)
    if metric == "length" and length_N is not None:
        known_N = length_N.astype(np.float64)
        scores, metric = Scores(known_N, known_N, known_N), "loss"  # sorted alike, whatever the numbers mean
    elif lacking:
        instead = "" if length_N is None else "difficulty.metric to length, or "
        raise ConfigError(
            f"difficulty.metric is '{metric}', but the rows of {type(trainer).__name__} have no column "
            f"{min(lacking)} to score them by; set {instead}difficulty.groups to 1"
        )
    else:
        scores = _scored(trainer, rows, difficulty)
    level_N = assign_levels(names, scores, metric, difficulty.groups)
    return rows.add_column("hbo_level", level_N)  # type: ignore[call-arg] # new_fingerprint is filled in by datasets


def _scored(trainer: Trainer, rows: Dataset, difficulty: TrainerDifficulty) -> Scores:
    if is_partitioned(trainer.model):
        raise ConfigError(
            f"difficulty.metric is '{difficulty.metric}', but under DeepSpeed ZeRO-3 no process holds the model to "
            "score with; set difficulty: {metric: length}, or {groups: 1}"
        )
    tokenizer = trainer.processing_class
    before = len(opening(tokenizer))
    asked = [[{"role": "user", "content": "?"}] if first > before else [] for first in _first_targets(rows)]
    tokens = rows.select_columns(["input_ids", "labels", "hbo_dataset"])
    tokens = tokens.add_column("hbo_row", np.arange(len(rows))).add_column("prompt", asked)
    with scoring_autocast(device_of(trainer.model), difficulty.precision):
        return score(tokens, trainer.model, tokenizer, ifd=difficulty.ifd, processes=Processes.of(trainer.accelerator))


def _first_targets(rows: Dataset) -> list[int]:
    """Where the first target of each row stands; 0 where nothing but targets, or none, are there."""
    found = []
    for labels in rows.select_columns(["labels"]).with_format("numpy").iter(_BATCH):
        found += [int(np.argmax(np.asarray(row) != IGNORED)) for row in labels["labels"]]
    return found
