"""What HBO must know of a trainer before it can balance it: its rows, its steps, how far its loader looks ahead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import Trainer, TrainingArguments

from hbo.config import HBOConfig
from hbo.config.rewards import needs
from hbo.core.groups import Groups
from hbo.core.keys import Purpose, generator
from hbo.data.tokens import opening
from hbo.errors import ConfigError, DataError
from hbo.rewards.choose import Measurer, measurer_for
from hbo.rewards.examples import PACKED, example_counts
from hbo.rewards.own_loss import OwnLossProbe
from hbo.scoring.batches import lengths
from hbo.training.group_losses import Meter, ReplayMeter
from hbo.training.own_loss import TrainerLoss, has_own_loss, pair_lengths
from hbo.training.parallel import check_parallelism, check_placement
from hbo.training.sampler import Schedule

_BATCH = 1 << 20
_HIGHEST = 1023  # as difficulty.groups has it
_SHARE_ASIDE, _LEAST_ASIDE = 0.05, 8


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
    length_N = lengths(rows) if "input_ids" in columns else pair_lengths(rows)
    number: dict[str, int] = {}
    code_N, level_N = np.zeros(len(rows), dtype=np.int16), np.zeros(len(rows), dtype=np.int16)
    done = 0
    wanted = [name for name in ("hbo_dataset", "hbo_level") if name in columns]
    for table in rows.select_columns(wanted).with_format("arrow").iter(_BATCH):
        if empty := [name for name in wanted if table[name].null_count]:
            raise DataError(f"column {empty[0]} of the training rows has empty places; every row needs a value")
        kinds = {name: str(table.schema.field(name).type) for name in wanted}
        if "string" not in kinds["hbo_dataset"] or not kinds.get("hbo_level", "int64").startswith(("int", "uint")):
            raise DataError(f"hbo_dataset must be text and hbo_level whole numbers, but the training rows hold {kinds}")
        encoded = table["hbo_dataset"].combine_chunks().dictionary_encode()
        here = [number.setdefault(name, len(number)) for name in encoded.dictionary.to_pylist()]
        stop = done + len(table)
        code_N[done:stop] = np.array(here, dtype=np.int16)[encoded.indices.to_numpy()]
        if "hbo_level" in columns:
            level_B = table["hbo_level"].to_numpy()
            if level_B.min() < 0 or level_B.max() > _HIGHEST:
                raise DataError(
                    f"column hbo_level holds {level_B.min()} to {level_B.max()}; levels are 0 to {_HIGHEST}"
                )
            level_N[done:stop] = level_B
        done = stop
    return Groups.from_codes(tuple(number), code_N, level_N, length_N=length_N, examples_N=example_counts(rows))


def drawn_groups(rows: Dataset, config: HBOConfig, seed: int) -> tuple[Groups, list[NDArray[np.int64]]]:
    """The groups that training draws from, and the rows of each dataset that are set aside for a reward (else none).

    These are 5% of a dataset and at least 8, but never more than half, chosen by the seed.

    Raises:
        DataError: As `groups_of`; or a dataset has a single row, of which none can be set aside; or rows are packed.
    """
    groups = groups_of(rows)
    if "dev_rows" not in needs(config.global_reward):
        return groups, []
    check_aside(dict(zip(groups.datasets, groups.sizes_K.tolist(), strict=True)), config)
    dev_K = []
    for k in range(len(groups.datasets)):
        own = np.concatenate([groups.rows(k, j) for j in range(groups.levels)])
        count = min(max(_LEAST_ASIDE, math.ceil(_SHARE_ASIDE * len(own))), len(own) // 2)
        dev_K.append(np.sort(generator(seed, Purpose.ASIDE, k).choice(own, count, replace=False)))
    return groups.without(np.concatenate(dev_K)), dev_K


def check_aside(sizes: Mapping[str, int], config: HBOConfig) -> None:
    """Refuses a dataset of which no row can be set aside for a reward that needs it.

    Raises:
        DataError: It has a single row.
    """
    if "dev_rows" not in needs(config.global_reward):
        return
    for name, size in sizes.items():
        if size < 2:
            raise DataError(
                f"dataset '{name}' has a single row to train on, but the reward {config.global_reward} needs rows set "
                "aside of each; give it more, or choose another method"
            )


def check_trainer(trainer: Trainer, config: HBOConfig) -> None:
    """Refuses, by name, what HBO can't balance as `config` asks for.

    Raises:
        ConfigError: An option of the trainer can't go with balancing.
        DataError: The rows are a stream.
    """
    args, rows = trainer.args, trainer.train_dataset
    check_parallelism(args, trainer)
    check_placement(trainer.model)
    if not isinstance(rows, Dataset):
        raise DataError(
            f"HBO needs a datasets.Dataset to draw from, not {type(rows).__name__}; load it with streaming=False, or "
            "store the stream with Dataset.from_generator first"
        )
    if args.train_sampling_strategy != "random":
        raise ConfigError(
            f"train_sampling_strategy is '{args.train_sampling_strategy}', which HBO's own sampling would override; "
            "leave it out (rows of a step are sorted by length anyway)"
        )
    _check_packing(args, rows)
    check_dispatching(args)
    is_sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    check_stream_options(args, config, is_sharded=is_sharded)
    if is_sharded and "whole_gradients" in needs(config.global_reward):
        raise ConfigError(
            f"the reward {config.global_reward} needs whole gradients, which no process holds under FSDP or DeepSpeed; "
            "choose another reward"
        )


def check_stream_options(args: TrainingArguments, config: HBOConfig, *, is_sharded: bool = False) -> None:
    """Refuses training whose passes can't be read, if rewards are to be read off them.

    Raises:
        ConfigError: Says which option stands in the way.
    """
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
            raise ConfigError(f"balance.rewards stream can't go with {option}, where {why}; set rewards: probe")


def check_packing_options(args: TrainingArguments) -> None:
    """Refuses ways of packing in which examples don't stay whole and apart.

    Raises:
        ConfigError: The strategy is `wrapped`, or there is no length to pack to.
    """
    if not getattr(args, "packing", False):
        return
    if getattr(args, "packing_strategy", None) == "wrapped":
        raise ConfigError(
            "packing_strategy 'wrapped' cuts examples in two and lets them attend to each other, so none can be "
            "measured by itself; leave it out (bfd)"
        )
    if getattr(args, "max_length", None) is None:
        raise ConfigError("packing needs a length to pack to; set max_length")


def check_dispatching(args: TrainingArguments) -> None:
    """Refuses a loader in which the first process draws for all and hands the rows out.

    Raises:
        ConfigError: `dispatch_batches` is on.
    """
    if args.accelerator_config.dispatch_batches:
        raise ConfigError(
            "accelerator_config.dispatch_batches lets one process draw the rows of all, which HBO's sampling can't be "
            "put into; leave it out (every process draws its own share of the same stream)"
        )


def _check_packing(args: TrainingArguments, rows: Dataset) -> None:
    check_packing_options(args)
    is_packed, wants_packing = PACKED in rows.column_names, getattr(args, "packing", False)
    if wants_packing and not (is_packed and "hbo_dataset" in rows.column_names):
        raise ConfigError(
            "packing puts rows of different groups into one, so HBO can't balance them; pack them with "
            "hbo.training.packing.pack_within_groups and give SFTConfig dataset_kwargs={'skip_prepare_dataset': True} "
            "too, or set packing: false"
        )
    if is_packed and not (wants_packing or getattr(args, "padding_free", False)):
        raise ConfigError(
            f"the training rows are packed (they have a column {PACKED}), but the trainer would let the examples of "
            "a row attend to each other; set packing: true"
        )


def check_passes(args: TrainingArguments, rows: int, max_passes: int | None) -> None:
    """Refuses training that a cap on passes leaves without rows before it is over.

    Raises:
        ConfigError: Says how many rows are wanted and how many there may be.
    """
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    wanted = args.max_steps * batch if args.max_steps > 0 else math.ceil(args.num_train_epochs * rows)
    if max_passes is not None and wanted > max_passes * rows:
        raise ConfigError(
            f"max_passes is {max_passes}, which allows {max_passes * rows} draws of {rows} rows, but training takes "
            f"{wanted}; set it to {math.ceil(wanted / rows)} or more, or train less"
        )


def schedule_of(loader: Any, args: TrainingArguments) -> Schedule:
    """Rows per optimizer step, as the trainer will consume them from its prepared loader."""
    return Schedule.of(len(loader), loader.total_batch_size, args.gradient_accumulation_steps)


def lag_of(wanted: int | None, args: TrainingArguments) -> int:
    """Whole steps between an update and its first draw; absent: the least that the loader's prefetch allows.

    Raises:
        ConfigError: Fewer than that were asked for.
    """
    workers = args.dataloader_num_workers
    prefetch = workers * (args.dataloader_prefetch_factor or 2) if workers else 0
    # accelerate looks one batch ahead on top of the workers; the +1 of `step + 1 + lag` pays for one whole step.
    least = -(-(1 + prefetch) // args.gradient_accumulation_steps) - 1
    if wanted is not None and wanted < least:
        raise ConfigError(
            f"balance.update_lag is {wanted}, but with {workers} dataloader workers rows are drawn ahead and an update "
            f"can take effect after {least} steps at the earliest; set it to {least} or more, or use fewer workers"
        )
    return least if wanted is None else wanted


def parts_of(trainer: Trainer, config: HBOConfig, seed: int) -> tuple[Groups, Measurer]:
    """What a trainer's rows are drawn from, and what measures the rewards on them.

    Raises:
        ConfigError: A reward isn't known, or can't be measured in the way asked for.
        DataError: The rows aren't labelled as they must be.
        ModelError: A reward asks for what the tokenizer lacks.
    """
    rows, tokenizer = trainer.train_dataset, trainer.processing_class
    groups, dev_K = drawn_groups(rows, config, seed)
    if has_own_loss(trainer):
        return groups, OwnLossProbe(TrainerLoss(trainer), groups, config, seed=seed)
    is_asked = "without_instruction" in needs(config.global_reward, config.local_reward)
    before = opening(tokenizer) if is_asked else ()
    measurer = measurer_for(rows, groups, config, pad_token_id=pad_id(trainer), seed=seed, dev_K=dev_K, opening=before)
    return groups, measurer


def meter_of(trainer: Trainer, groups: Groups) -> Meter | ReplayMeter:
    """What reads the training loss of each group off the trainer's passes."""
    if not has_own_loss(trainer):
        return Meter(groups)
    return ReplayMeter(TrainerLoss(trainer), groups, is_referred=not trainer.precompute_ref_logps)


def pad_id(trainer: Trainer) -> int:
    """The id that padding is made of; any will do where there is none, since padding is masked."""
    tokenizer = trainer.processing_class
    return int(getattr(tokenizer, "pad_token_id", None) or 0)
