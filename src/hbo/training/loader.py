"""What sampler stands in a trainer's loader, and what it means for the order of rows.

HBO's sampler takes its place, so its meaning must be kept: plain random order is what balancing replaces; TRL's
RepeatSampler is known and kept (each prompt several times, for a group of generations); anything else was somebody's
choice and is refused.
"""

from __future__ import annotations

from typing import Any

from accelerate.data_loader import BatchSamplerShard, DataLoaderDispatcher, SeedableRandomSampler
from torch.utils.data import BatchSampler, RandomSampler
from transformers import Trainer
from transformers.trainer_utils import has_length

from hbo.errors import ConfigError
from hbo.training.own_loss import is_of_class
from hbo.training.schedule import RepeatedSchedule, Repeats, Schedule

_RANDOM = (RandomSampler, SeedableRandomSampler)
_ORDER_IS_FREE = frozenset({"trl.trainer.kto_trainer.KTOTrainer", "trl.experimental.kto.kto_trainer.KTOTrainer"})
"""Trainers that ask for rows in their own order for a reason that no order takes away: a row of KTO's carries the other
completion, of which the KL term is estimated, along with it."""
_INSTEAD = "leave it out, so that the trainer draws rows at random, or train without HBO"


def wanted_repeats(trainer: Trainer) -> Repeats | None:
    """What the sampler that the trainer would put into its loader says of repeating; None: rows come at random.

    Raises:
        ConfigError: It means anything else.
    """
    # A stream has no sampler, and is refused for being one.
    return _meaning(trainer, trainer._get_train_sampler()) if has_length(trainer.train_dataset) else None


def repeats_in(trainer: Trainer, loader: Any) -> Repeats | None:
    """The same, of a loader that is ready to train with.

    Raises:
        ConfigError: Its sampler means anything else, or HBO's can't take its place.
    """
    name = type(trainer).__name__
    if isinstance(loader, DataLoaderDispatcher):
        raise ConfigError(DISPATCHED)
    batches = loader.batch_sampler
    batches = batches.batch_sampler if isinstance(batches, BatchSamplerShard) else batches
    if type(batches) is not BatchSampler:
        raise ConfigError(
            f"the training loader of {name} has a batch sampler of its own ({type(batches).__name__}), which HBO's "
            f"sampling would override; {_INSTEAD}"
        )
    if not len(loader):
        raise ConfigError(
            f"{len(trainer.train_dataset)} rows don't fill a single batch of {name}'s training loader; give it more "
            "rows, or make the batch smaller"
        )
    repeats = _meaning(trainer, batches.sampler)
    if repeats is not None and repeats.times * repeats.prompts != loader.total_batch_size:
        raise ConfigError(
            f"the RepeatSampler of {name} draws {repeats.prompts} prompts {repeats.times} times each, but a batch of "
            f"its loader has {loader.total_batch_size} rows, so HBO can't tell which belong together; make them equal"
        )
    return repeats


def schedule_of(loader: Any, accumulation: int, repeats: Repeats | None) -> Schedule:
    """Which rows the steps of a training take whose loader is this one."""
    if repeats is not None:
        return RepeatedSchedule.repeated(len(loader), accumulation, repeats)
    return Schedule.of(len(loader), loader.total_batch_size, accumulation)


def order_is_free(trainer: Trainer) -> bool:
    """Whether the trainer asks for an order of rows that it doesn't need."""
    return is_of_class(trainer, _ORDER_IS_FREE)


DISPATCHED = (
    "accelerator_config.dispatch_batches lets one process draw the rows of all, which HBO's sampling can't be put "
    "into; leave it out (every process draws its own share of the same stream)"
)


def _meaning(trainer: Trainer, sampler: Any) -> Repeats | None:
    name = type(trainer).__name__
    if type(sampler) in _RANDOM:
        if sampler.replacement or sampler.num_samples != len(sampler.data_source):
            raise ConfigError(
                f"{name} draws {sampler.num_samples} rows {'with' if sampler.replacement else 'without'} replacement "
                f"for an epoch of {len(sampler.data_source)}, which HBO's sampling would override; {_INSTEAD}"
            )
        return None
    kind = type(sampler)
    if kind.__name__ == "RepeatSampler" and kind.__module__.startswith("trl."):
        if not sampler.shuffle:
            raise ConfigError(
                f"{name} goes through its prompts in their own order (shuffle_dataset is false), which HBO's sampling "
                "would override; set shuffle_dataset: true"
            )
        return Repeats(sampler.mini_repeat_count, sampler.batch_size, sampler.repeat_count)
    if order_is_free(trainer):
        return None
    if sampler is None:
        raise ConfigError(f"{name} takes its rows in their own order, which HBO's sampling would override; {_INSTEAD}")
    raise ConfigError(
        f"{name} draws its rows with a sampler of its own ({kind.__name__}), which HBO's sampling would override; "
        f"{_INSTEAD}"
    )
