"""A configuration → what a run trains on: model, tokenizer, rows with their groups, held-out rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset, disable_progress_bars
from transformers import PreTrainedModel, PreTrainedTokenizerBase
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
from hbo.data.tokens import refused, tokenize
from hbo.data.trainable import left_out_of, refuse_empty, without_unusable
from hbo.data.unusable import counted_rows, reasons_told
from hbo.errors import ConfigError
from hbo.progress import Track, silent
from hbo.run.arguments import typed
from hbo.run.saving import accept_stored_names
from hbo.run.tokenizer import tokenizer_of
from hbo.scoring import levels
from hbo.scoring.devices import scoring_autocast, to_device, uses_bf16
from hbo.scoring.difficulty import Scores, assign_levels, score
from hbo.scoring.levels import count_left, without_easiest
from hbo.scoring.limits import Limits
from hbo.scoring.models import load_model, load_tokenizer, resolve
from hbo.training.attach import check_aside, check_passes
from hbo.training.balance_log import check_names
from hbo.training.fit import Fit, limits_of, pad_within
from hbo.training.parallel import check_placement
from hbo.training.processes import all_processes

_BATCH = 1000
_OWN_INIT = ("dtype", "use_safetensors")  # of train.model_init_kwargs; seen to elsewhere


@dataclass(frozen=True)
class Data:
    """The rows of a run, tokenised for its model.

    Attributes:
        train: Rows to train on; every one has a target.
        held_out: Rows never trained on.
        sizes: Dataset → training rows, in the configured order, those that difficulty.drop_easiest drops among them.
        max_length: Tokens that a row may have: `train.max_length`, or as many as the model has positions if fewer.
        notes: What is to be said of the rows.
        left_out: Dataset → why rows of it are neither trained on nor held out → how many.
    """

    train: Dataset
    held_out: Dataset
    sizes: dict[str, int]
    max_length: int | None
    notes: tuple[Note, ...] = ()
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)


def quiet_libraries() -> None:
    """Leaves progress and warnings to the command line: no bars and no chatter of datasets and transformers."""
    disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def read_data(config: RunConfig, tokenizer: PreTrainedTokenizerBase, args: SFTConfig, track: Track) -> Data:
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
    (train, *rest), length = own_tokens(config, [train, held] if len(held) else [train], tokenizer, args, track)
    notes = [*of_reading(mixture), *of_tokens([train, *rest])]
    train, lost = without_unusable(train, length)
    held, lost_held = without_unusable(rest[0], length) if rest else (held, {})
    sizes = {name: dataset_sizes(train).get(name, 0) for name in names}
    refuse_empty(names, sizes, lost)
    notes += [*of_lost(lost, "training row"), *of_lost(lost_held, "held-out row")]
    check_sizes(config, sizes)
    check_length(config, sizes, args)
    return Data(train, held, sizes, length, tuple(notes), left_out_of(mixture, [lost, lost_held]))


def plain_template_of(data: Data, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """How conversations were rendered if the tokenizer has no chat template; None if it has, or if there are none."""
    if tokenizer.chat_template:
        return None
    for table in data.train.select_columns(["completion"]).with_format("arrow").iter(_BATCH):
        roles = table["completion"].combine_chunks().flatten().field("role")
        if any(role != "text" for role in roles.unique().to_pylist()):
            return plain_template(tokenizer)
    return None


def _check_answers(config: RunConfig, rows: Dataset) -> None:
    """Refuses plain text where answers alone are asked for: all of it would be trained on."""
    train = typed(config).train
    asked = [key for key in ("assistant_only_loss", "completion_only_loss") if train.get(key)]
    for batch in rows.with_format("arrow").iter(_BATCH) if asked else ():
        for name, completion in zip(batch["hbo_dataset"].to_pylist(), batch["completion"].to_pylist(), strict=True):
            if completion[0]["role"] == "text":
                raise ConfigError(
                    f"train.{asked[0]} is true, but dataset '{name}' is plain text, which has no answers; leave the "
                    "key out (of all other datasets answers alone are targets anyway), or leave the dataset out"
                )


def own_tokens(
    config: RunConfig, tables: Sequence[Dataset], tokenizer: PreTrainedTokenizerBase, args: SFTConfig, track: Track
) -> tuple[list[Dataset], int | None]:
    """Tables of canonical rows with the tokens of the run's model, none longer than it takes, and how long they may be.

    Raises:
        DataError: The chat template refuses a row of a dataset that isn't to drop such.
        ModelError: A row holds a token that the model has no embedding for.
    """
    sources = config.mixture.datasets
    lenient = lenient_datasets(sources, [name for rows in tables for name in dataset_names(rows)])
    place = partial(place_of, sources)
    found = [as_tokens(config, rows, tokenizer, args, track, lenient=lenient, place=place) for rows in tables]
    fit = _fit_of(config, config.model, _limits(config), args)
    found = [fit.rows(rows, tokenizer) for rows in found]
    fit.tell()
    return found, fit.length


def as_tokens(
    config: RunConfig,
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    args: SFTConfig,
    track: Track,
    **options: Any,
) -> Dataset:
    """Rows with their tokens, cut as `train.max_length` and `train.truncation_mode` say.

    Args:
        config: Run.
        rows: Canonical ones.
        tokenizer: Renders them.
        args: For the length.
        track: Hears of progress.
        options: `lenient` and `place` of `hbo.data.tokens.tokenize`.
    """
    return tokenize(rows, tokenizer, max_length=args.max_length, keep_end=_keeps_end(config), track=track, **options)


def _fit_of(config: RunConfig, model: str, limits: Limits, args: SFTConfig) -> Fit:
    """What makes the run's rows fit a model of these limits."""
    return Fit(model, limits, args.max_length, keeps_end=_keeps_end(config))


def _keeps_end(config: RunConfig) -> bool:
    return typed(config).train.get("truncation_mode") == "keep_end"


def check_sizes(config: RunConfig, sizes: Mapping[str, int]) -> None:
    """Refuses datasets that can't be told apart in the log, or be measured; names those that have fewer groups.

    Args:
        config: Run.
        sizes: Dataset → rows to train on.

    Raises:
        ConfigError: Two names can't go together.
        DataError: No dataset has as many rows as groups, or one has none to set aside for the reward.
    """
    check_names(list(sizes))
    left = {name: count_left(size, config.difficulty.drop_easiest) for name, size in sizes.items()}
    check_aside(left, config.balance)
    levels.check_sizes(left, config.difficulty.groups)


def check_length(config: RunConfig, sizes: Mapping[str, int], args: SFTConfig) -> None:
    """Refuses training that is longer than `mixture.max_passes` allows, as far as that is known yet.

    Raises:
        ConfigError: It is.
    """
    if not args.packing:  # how many rows packed ones are is not known yet
        left = sum(count_left(size, config.difficulty.drop_easiest) for size in sizes.values())
        check_passes(args, left, config.mixture.max_passes)


def scored(
    config: RunConfig,
    data: Dataset,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    args: SFTConfig,
    track: Track,
) -> Scores:
    """Difficulty of every row, under the model itself or the separate scorer.

    Args:
        config: Run.
        data: Tokenised rows.
        model: The untuned model.
        tokenizer: Its tokenizer.
        args: For device and length.
        track: Hears of progress.
    """
    if config.difficulty.model is not None:
        spec, tokenizer, data = scorer_rows(config, data, args, track)
        model = load_scorer(spec, args)
    to_device(model, args.device)
    with scoring_autocast(args.device, config.difficulty.precision):
        return score(data, model, tokenizer, ifd=config.difficulty.ifd, track=track, processes=all_processes())


def scorer_rows(
    config: RunConfig, data: Dataset, args: SFTConfig, track: Track
) -> tuple[str, PreTrainedTokenizerBase, Dataset]:
    """Where the separate scorer is, its tokenizer, and the rows with its tokens.

    A row that its chat template refuses has no tokens, and a warning counts it.

    Raises:
        ModelError: It can't be found, or has no embedding of a token.
    """
    assert config.difficulty.model is not None
    spec = resolve(config.difficulty.model, track=track)
    tokenizer = load_scorer_tokenizer(spec, args)
    limits = limits_of(spec, trust_remote_code=bool(args.trust_remote_code))
    fit = _fit_of(config, config.difficulty.model, limits, args)
    texts = data.remove_columns([name for name in ("input_ids", "labels") if name in data.column_names])
    lenient = dataset_sizes(texts)  # what the scorer can't rank is hard, not unusable
    rows = as_tokens(config, texts, tokenizer, args, track, lenient=lenient)
    rows = fit.rows(rows, tokenizer)
    fit.tell()
    for name, reasons in refused(rows).items():
        warnings.warn(
            f"dataset '{name}': {counted_rows(reasons)} rows can't be scored by {config.difficulty.model} and count as "
            f"hard: {reasons_told(reasons)}",
            UserWarning,
            stacklevel=2,
        )
    return spec, tokenizer, rows


def grouped(config: RunConfig, train: Dataset, scores: Scores | None, args: SFTConfig) -> Dataset:
    """`train` with `hbo_level`, and `hbo_reference` when the model itself was the scorer, as precise as in training.

    Without the rows that `difficulty.drop_easiest` drops.
    """
    if scores is None:
        return train.add_column("hbo_level", np.zeros(len(train), dtype=np.int64))
    if (left := left_over(config, train, scores)) is not None:
        train, scores = train.select(left), scores.of(left)
    level_N = assign_levels(
        train["hbo_dataset"][:], scores, config.difficulty.metric, config.difficulty.groups, train["hbo_row"][:]
    )
    train = train.add_column("hbo_level", np.asarray(level_N, dtype=np.int64))
    as_trained = uses_bf16(args.device, config.difficulty.precision) == bool(args.bf16)
    if config.difficulty.model is None and as_trained:
        train = train.add_column("hbo_reference", np.asarray(scores.loss_N, dtype=np.float64))
    return train


def left_over(config: RunConfig, train: Dataset, scores: Scores) -> np.ndarray | None:
    """The numbers of the rows that `difficulty.drop_easiest` leaves; None where it leaves all."""
    share = config.difficulty.drop_easiest
    if not share:
        return None
    return without_easiest(train["hbo_dataset"][:], scores, config.difficulty.metric, share, train["hbo_row"][:])


def needs_scores(config: RunConfig) -> bool:
    """Whether difficulty means anything to this run; with one group there is nothing to sort."""
    return config.difficulty.groups > 1 or config.difficulty.drop_easiest > 0


def weights(config: RunConfig, names: list[str]) -> dict[str, float]:
    """Dataset → weight; a `group_by` source's weight goes to its parts by their sizes' count, evenly."""
    found: dict[str, float] = {}
    for source, entry in config.mixture.datasets.items():
        if entry.weight is None:
            continue
        parts = [source] if source in names else [name for name in names if name.startswith(f"{source}/")]
        found |= {name: entry.weight / len(parts) for name in parts}
    return found


def load(config: RunConfig, track: Track = silent) -> tuple[str, PreTrainedTokenizerBase]:
    """Where the model is, and its tokenizer; the weights are loaded later, when the data is known to be fine."""
    train = typed(config).train
    pickles = may_unpickle(train.get("model_init_kwargs"))
    spec = resolve(config.model, pickles=pickles, track=track)
    tokenizer = tokenizer_of(spec, train, pickles=pickles)
    pad_within(tokenizer, _limits(config))
    return spec, tokenizer


def _limits(config: RunConfig) -> Limits:
    train = typed(config).train
    options = train.get("model_init_kwargs")
    spec = resolve(config.model, pickles=may_unpickle(options))
    return limits_of(spec, trust_remote_code=bool(train.get("trust_remote_code", False)), options=options)


def may_unpickle(model_init_kwargs: Any) -> bool:
    """Whether the user asks for pickled weights, in transformers' own words."""
    return isinstance(model_init_kwargs, dict) and model_init_kwargs.get("use_safetensors") is False


def load_weights(spec: str, args: SFTConfig) -> PreTrainedModel:
    """The model in fp32: under bf16 autocast these are the master weights, which bf16 ones are too coarse to be.

    Raises:
        ConfigError: Some of it was put on no device.
        ModelError: It can't be found or loaded.
    """
    pickles = may_unpickle(args.model_init_kwargs)
    options = {key: value for key, value in (args.model_init_kwargs or {}).items() if key not in _OWN_INIT}
    trusted = args.trust_remote_code
    model = load_model(spec, dtype=dtype_of(args), trust_remote_code=trusted, pickles=pickles, options=options)
    check_placement(model)  # a device_map like "auto" shows only now what it does
    accept_stored_names(model)
    return model


def load_scorer(spec: str, args: SFTConfig) -> PreTrainedModel:
    """The model of `difficulty.model`; code that it brings runs under the same condition as the trained model's."""
    return load_model(spec, trust_remote_code=bool(args.trust_remote_code))


def load_scorer_tokenizer(spec: str, args: SFTConfig) -> PreTrainedTokenizerBase:
    """Its tokenizer, likewise."""
    return load_tokenizer(spec, trust_remote_code=bool(args.trust_remote_code))


def dtype_of(args: SFTConfig) -> torch.dtype:
    """What the weights are loaded in: fp32 unless `train.model_init_kwargs.dtype` says otherwise."""
    dtype = dict(args.model_init_kwargs or {}).get("dtype", torch.float32)
    found: torch.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return found
