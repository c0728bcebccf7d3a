"""What a trainer makes when training begins, made on a trial: options that it refuses are told before rows are read.

transformers parses the options of optimizers, schedules and trackers only when it uses them. So it is asked to use them
at once, on a model of one layer.
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


def rehearse(args: TrainingArguments) -> None:
    """Refuses arguments of which the trainer could make nothing.

    Raises:
        ConfigError: Names the key.
    """
    with _told("report_to"):
        get_reporting_integration_callbacks(args.report_to)
    options = f", optim_args {args.optim_args}" if args.optim_args else ""
    with _told(f"optim ({args.optim.value}{options})"):
        Trainer.get_optimizer_cls_and_kwargs(_for_any_model(args), nn.Sequential(nn.Linear(1, 1)))
    steps = args.max_steps if args.max_steps > 0 else _STEPS
    with _told(f"lr_scheduler_type ({args.lr_scheduler_type.value})"):
        get_scheduler(
            args.lr_scheduler_type,
            optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=args.learning_rate),
            num_warmup_steps=args.get_warmup_steps(steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )


def _for_any_model(args: TrainingArguments) -> TrainingArguments:
    # Which modules are meant is known of the model only; whether any must be named, and how, of its stand-in too.
    asked = copy(args)
    if asked.optim_target_modules is not None:
        asked.optim_target_modules = "all-linear"
    return asked


@contextmanager
def _told(key: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # they check values by using them, so anything may come out
        raise ConfigError(f"train.{key}: {first_line(error)}") from None
