"""What a trainer makes when training begins, made on a trial: what it would refuse then is told before rows are read.

transformers looks at the options of optimizers, schedules and trackers only when it uses them, which may be hours of
scoring later. So it is asked to use them at once, on one layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy

import torch
from torch import nn
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks

from hbo.errors import ConfigError, first_line

_STEPS = 100  # of a run whose length isn't known yet
_NEEDS_MODEL = {"params", "model", "optimizer_dict"}


def rehearse(args: TrainingArguments) -> None:
    """Refuses arguments of which the trainer could make nothing.

    Raises:
        ConfigError: Names the key.
    """
    with _told("train.report_to"):
        get_reporting_integration_callbacks(args.report_to)
    options = f", optim_args {args.optim_args}" if args.optim_args else ""
    with _told(f"train.optim ({args.optim.value}{options})"):
        optimizer = _optimizer(args)
    steps = args.max_steps if args.max_steps > 0 else _STEPS
    with _told(f"train.lr_scheduler_type ({args.lr_scheduler_type.value})"):
        get_scheduler(
            args.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=args.get_warmup_steps(steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )


def _optimizer(args: TrainingArguments) -> torch.optim.Optimizer:
    """The optimizer of one layer, or another where only the model itself would do, or another device."""
    layer = nn.Linear(1, 1)
    asked = copy(args)
    if asked.optim_target_modules is not None:
        asked.optim_target_modules = "all-linear"  # which are meant is known of the model only
    made, options = Trainer.get_optimizer_cls_and_kwargs(asked, nn.Sequential(layer))
    if made.__module__.startswith(("torch.optim", "transformers")) and not _NEEDS_MODEL & options.keys():
        optimizer: torch.optim.Optimizer = made(layer.parameters(), **options)
        return optimizer
    return torch.optim.SGD(layer.parameters(), lr=args.learning_rate)


@contextmanager
def _told(key: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # they check values by using them, so anything may come out
        raise ConfigError(f"{key}: {first_line(error)}") from None
