"""The rows of a run: the mixture read, its held-out part split off, and both tokenised for the run's model.

Whatever takes a configuration here takes one that `hbo.run.arguments.typed` has gone over.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig

from hbo.config import RunConfig
from hbo.data.chat import plain_template
from hbo.data.mixture import (
    dataset_names,
    dataset_sizes,
    fraction_of,
    hold_out,
    lenient_datasets,
    place_of,
    read_mixture,
)
from hbo.data.notes import Note, of_lost, of_reading, of_tokens
from hbo.data.tokens import tokenize
from hbo.data.trainable import cut_rows, left_out_of, refuse_empty, without_unusable
from hbo.errors import ConfigError
from hbo.progress import Track
from hbo.run.model import FoundModel
from hbo.scoring.levels import check_level_sizes, count_left
from hbo.scoring.limits import check_ids
from hbo.training.balance_log import check_names
from hbo.training.checks import check_max_passes
from hbo.training.groups import check_aside

_BATCH = 1000


@dataclass(frozen=True)
class Data:
    """The rows of a run, tokenised for its model."""

    train: Dataset
    """Rows to train on; every one has a target."""
    held_out: Dataset
    sizes: dict[str, int]
    """Dataset → training rows, in the configured order, those that difficulty.drop_easiest drops among them."""
    max_length: int | None
    """Tokens that a row may have: `train.max_length`, or as many as the model has positions if fewer."""
    notes: tuple[Note, ...] = ()
    """What is to be said of the rows."""
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    """Dataset → why rows of it are neither trained on nor held out → how many."""


def read_data(config: RunConfig, found: FoundModel, args: SFTConfig, track: Track) -> Data:
    """The mixture's rows, tokenised.

    Raises:
        ConfigError: Two names can't go together, or training is longer than `mixture.max_passes` allows.
        DataError: A source, a file or a row can't be used.
        ModelError: A row holds a token that the model has no embedding for.
    """
    mixture = read_mixture(config.mixture.datasets, seed=config.split_seed, track=track)
    _check_answers(config, mixture)
    names = list(dataset_sizes(mixture))
    train, held = hold_out(mixture, config.mixture.eval_fraction, config.split_seed)
    train = fraction_of(train, config.mixture.train_fraction, config.split_seed)
    (train, *rest), length = own_tokens(config, [train, held] if len(held) else [train], found, args, track)
    notes = [*of_reading(mixture), *of_tokens([train, *rest])]
    train, lost = without_unusable(train, length)
    held, lost_held = without_unusable(rest[0], length) if rest else (held, {})
    sizes = {name: dataset_sizes(train).get(name, 0) for name in names}
    refuse_empty(names, sizes, lost)
    notes += [*of_lost(lost, "training row"), *of_lost(lost_held, "held-out row")]
    check_datasets(config, sizes)
    check_length(config, sizes, args)
    return Data(train, held, sizes, length, tuple(notes), left_out_of(mixture, [lost, lost_held]))


def own_tokens(
    config: RunConfig, tables: Sequence[Dataset], found: FoundModel, args: SFTConfig, track: Track
) -> tuple[list[Dataset], int | None]:
    """Tables of canonical rows with the tokens of the run's model, none longer than it takes, and how long they may be.

    Raises:
        DataError: The chat template refuses a row of a dataset that isn't to drop such.
        ModelError: A row holds a token that the model has no embedding for.
    """
    sources = config.mixture.datasets
    lenient = lenient_datasets(sources, [name for rows in tables for name in dataset_names(rows)])
    return fitted(config, tables, found, args, track, lenient=lenient, place=partial(place_of, sources))


def fitted(
    config: RunConfig, tables: Sequence[Dataset], found: FoundModel, args: SFTConfig, track: Track, **options: Any
) -> tuple[list[Dataset], int | None]:
    """Tables of canonical rows with tokens, cut as `train:` says and to what the model takes, and how long they may be.

    The options are `lenient` and `place` of `hbo.data.tokens.tokenize`.

    Raises:
        DataError: The chat template refuses a row of a dataset that isn't to drop such.
        ModelError: A row holds a token that the model has no embedding for.
    """
    keep_end = config.train.get("truncation_mode") == "keep_end"
    model, limits = f"model '{found.name}'", found.limits
    fitting, longer = [], Counter[str]()
    for rows in tables:
        tokens = tokenize(rows, found.tokenizer, max_length=args.max_length, keep_end=keep_end, track=track, **options)
        cut, count_of = cut_rows(tokens, limits.positions, keep_end=keep_end)
        check_ids(cut, found.tokenizer, limits, model)
        fitting.append(cut)
        longer.update(count_of)
    if longer:
        counts = ", ".join(f"{count} of dataset '{name}'" for name, count in longer.items())
        beyond = ", or train.model_init_kwargs.max_position_embeddings to the length that it shall learn"
        warnings.warn(
            f"{model} has {limits.positions} positions, so longer rows are cut there: {counts}; set "
            f"train.max_length to {limits.positions} or less{beyond if limits.is_rotary else ''}",
            UserWarning,
            stacklevel=2,
        )
    return fitting, min((length for length in (args.max_length, limits.positions) if length is not None), default=None)


def plain_template_of(data: Data, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """How conversations were rendered if the tokenizer has no chat template; None if it has, or if there are none."""
    if tokenizer.chat_template:
        return None
    for table in data.train.select_columns(["completion"]).with_format("arrow").iter(_BATCH):
        roles = table["completion"].combine_chunks().flatten().field("role")
        if any(role != "text" for role in roles.unique().to_pylist()):
            return plain_template(tokenizer)
    return None


def check_datasets(config: RunConfig, sizes: Mapping[str, int]) -> None:
    """Refuses datasets that can't be told apart in the log, or be measured; names those that have fewer groups.

    `sizes` are of the rows to train on.

    Raises:
        ConfigError: Two names can't go together.
        DataError: No dataset has as many rows as groups, or one has none to set aside for the reward.
    """
    check_names(list(sizes))
    left = {name: count_left(size, config.difficulty.drop_easiest) for name, size in sizes.items()}
    check_aside(left, config.balance)
    check_level_sizes(left, config.difficulty.groups)


def check_length(config: RunConfig, sizes: Mapping[str, int], args: SFTConfig) -> None:
    """Refuses training that is longer than `mixture.max_passes` allows, as far as that is known yet.

    Raises:
        ConfigError: It is.
    """
    if not args.packing:  # how many rows packed ones are is not known yet
        left = sum(count_left(size, config.difficulty.drop_easiest) for size in sizes.values())
        check_max_passes(args, left, config.mixture.max_passes)


def weights_of(config: RunConfig, names: list[str]) -> dict[str, float]:
    """Dataset → weight; a `group_by` source's weight is shared evenly by the datasets that were made of it."""
    found: dict[str, float] = {}
    for source, entry in config.mixture.datasets.items():
        if entry.weight is None:
            continue
        parts = [source] if source in names else [name for name in names if name.startswith(f"{source}/")]
        found |= {name: entry.weight / len(parts) for name in parts}
    return found


def paths_of(config: RunConfig, names: Iterable[str]) -> dict[str, str]:
    """Dataset → where it was read from; a part of a `group_by` source is named source/value."""
    sources = {name: name if name in config.mixture.datasets else name.partition("/")[0] for name in names}
    return {name: config.mixture.datasets[source].path for name, source in sources.items()}


def _check_answers(config: RunConfig, rows: Dataset) -> None:
    """Refuses plain text where answers alone are asked for: all of it would be trained on."""
    asked = [key for key in ("assistant_only_loss", "completion_only_loss") if config.train.get(key)]
    for batch in rows.with_format("arrow").iter(_BATCH) if asked else ():
        for name, completion in zip(batch["hbo_dataset"].to_pylist(), batch["completion"].to_pylist(), strict=True):
            if completion[0]["role"] == "text":
                raise ConfigError(
                    f"train.{asked[0]} is true, but dataset '{name}' is plain text, which has no answers; leave the "
                    "key out (in all other datasets only answers are trained on anyway), or leave the dataset out"
                )
