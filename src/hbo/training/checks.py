"""What a trainer must be, and what it must not ask for, so that HBO can balance its rows."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

from datasets import Dataset
from transformers import PreTrainedModel, Trainer, TrainingArguments

from hbo.compat import is_peft, sampling_strategy
from hbo.config import HBOConfig
from hbo.config.rewards import needs
from hbo.errors import ConfigError, ModelError
from hbo.rewards.examples import PACKED
from hbo.scoring.batches import lengths
from hbo.scoring.limits import Limits, check_ids, has_position_table
from hbo.training.loader import DISPATCHED, order_is_free, wanted_repeats
from hbo.training.parallel import check_parallelism, check_placement
from hbo.training.schedule import Repeats

_BATCH = 1000


def check_trainer(trainer: Trainer, config: HBOConfig) -> Repeats | None:
    """Refuses, by name, what HBO can't balance as `config` asks for; how the trainer repeats prompts, if it does.

    Raises:
        ConfigError: An option of the trainer can't go with balancing.
    """
    args, rows = trainer.args, trainer.train_dataset
    check_parallelism(args, trainer)
    check_placement(trainer.model)
    strategy = sampling_strategy(args)
    is_in_order = strategy == "sequential" and order_is_free(trainer)
    if strategy != "random" and not is_in_order:
        raise ConfigError(
            f"train_sampling_strategy is '{strategy}', which HBO's own sampling would override; "
            "set it to random (rows of a step are sorted by length anyway)"
        )
    is_sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    check_options(args, config, is_sharded=is_sharded)
    if isinstance(rows, Dataset):
        _check_packed(rows, is_asked=getattr(args, "packing", False), is_flat=getattr(args, "padding_free", False))
    for reward in (config.global_reward, config.local_reward):
        if is_sharded and "whole_gradients" in needs(reward):
            raise ConfigError(
                f"the reward {reward} needs whole gradients, which no process holds under FSDP or DeepSpeed; "
                "choose another reward"
            )
    if trainer.accelerator.dispatch_batches:
        raise ConfigError(DISPATCHED)
    return wanted_repeats(trainer)


def check_options(args: TrainingArguments, config: HBOConfig, *, is_sharded: bool = False) -> None:
    """Refuses options that can't go with balancing, as far as they can be seen without a trainer.

    Raises:
        ConfigError: Examples wouldn't stay whole and apart when packed; one process would draw for all; or rewards are
            to be read off passes that can't be read.
    """
    if getattr(args, "packing", False):
        if getattr(args, "packing_strategy", None) == "wrapped":
            raise ConfigError(
                "packing_strategy 'wrapped' cuts examples in two and lets them attend to each other, so none can be "
                "measured by itself; leave it out (bfd)"
            )
        if getattr(args, "max_length", None) is None:
            raise ConfigError("packing needs max_length, the length of a packed row; set it")
    if args.accelerator_config.dispatch_batches:
        raise ConfigError(DISPATCHED)
    if config.rewards != "stream" or config.is_static:
        return
    reasons = {
        "packing": (getattr(args, "packing", False), "a packed row holds several examples"),
        "padding_free": (getattr(args, "padding_free", False), "a batch without padding is one long row"),
        "torch_compile": (args.torch_compile, "a compiled model doesn't show what its layers are given"),
        "FSDP or DeepSpeed": (is_sharded or args.fsdp or args.deepspeed, "no process holds a whole layer"),
    }
    for option, (is_on, why) in reasons.items():
        if is_on:
            raise ConfigError(f"balance.rewards: stream doesn't work with {option}: {why}; set rewards: probe")


def check_max_passes(
    args: TrainingArguments, rows: int, max_passes: int | None, repeats: Repeats | None = None
) -> None:
    """Refuses training that a cap on passes leaves without rows before it is over.

    Raises:
        ConfigError: Says how many rows are wanted and how many there may be.
    """
    processes = 1 if args.accelerator_config.split_batches else args.world_size  # else each loads a batch of its own
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * processes
    if repeats is not None:  # as many prompts as stand for a batch of rows
        batch = math.ceil(args.gradient_accumulation_steps / repeats.batches * repeats.prompts)
    wanted = args.max_steps * batch if args.max_steps > 0 else math.ceil(args.num_train_epochs * rows)
    if max_passes is not None and wanted > max_passes * rows:
        raise ConfigError(
            f"max_passes is {max_passes}, which allows {max_passes * rows} draws of {rows} rows, but training takes "
            f"{wanted}; set it to {math.ceil(wanted / rows)} or more, or train less"
        )


def check_rows_fit(trainer: Trainer) -> None:
    """Refuses a trainer's rows that its model can't be given; warns of those that it wasn't made for.

    Rows without `input_ids`, such as pairs, and items of a torch dataset are taken as they are.

    Raises:
        ModelError: A row holds a token that the model has no embedding for, or is longer than its table of positions.
    """
    rows, model = trainer.train_dataset, trainer.model
    if not (isinstance(model, PreTrainedModel) or is_peft(model)) or not isinstance(rows, Dataset):
        return
    if "input_ids" not in rows.column_names:
        return
    known, stated = model.get_input_embeddings().weight.shape[0], Limits.of(model.config)
    limits = replace(stated, ids=known or stated.ids)  # under ZeRO-3 no process holds any of them
    check_ids(rows, trainer.processing_class, limits, "the model")
    longest = _longest(rows)
    if limits.positions is None or longest <= limits.positions:
        return
    told = f"a row of {longest} tokens is longer than the {limits.positions} positions that the model"
    if has_position_table(model, limits.positions):
        raise ModelError(f"{told} has; lower max_length to at most {limits.positions}")
    warnings.warn(f"{told} was made for; lower max_length to {limits.positions}", UserWarning, stacklevel=2)


def _check_packed(rows: Dataset, *, is_asked: bool, is_flat: bool) -> None:
    is_packed = PACKED in rows.column_names
    if is_asked and not (is_packed and "hbo_dataset" in rows.column_names):
        raise ConfigError(
            "packing puts rows of different groups into one, so HBO can't balance them; leave packing out and "
            "call hbo.training.packing.pack_trainer(trainer) before HBOCallback(trainer): it packs the trainer's "
            "rows within their groups"
        )
    if is_packed and not (is_asked or is_flat):
        raise ConfigError(
            f"the training rows are packed (they have a column {PACKED}), but the trainer would let the examples of "
            "a row attend to each other; set packing: true"
        )


def _longest(rows: Dataset) -> int:
    """Tokens of the longest example; those of a packed row each have positions of their own."""
    if PACKED not in rows.column_names:
        return int(lengths(rows).max(initial=0))
    tables = rows.select_columns([PACKED]).with_format("arrow").iter(_BATCH)
    return max(int(table[PACKED].combine_chunks().flatten().to_numpy().max(initial=0)) for table in tables)
