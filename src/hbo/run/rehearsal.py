"""What a trainer would refuse when training begins, found out before rows are read.

transformers looks at the options of optimizers, schedules and trackers only when it uses them, which may be hours of
scoring later. So it is asked to use them at once, on one layer; and the adapter is put on a model without weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from importlib.metadata import version

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks
from trl import SFTConfig

from hbo.compat import trains_on_cpu
from hbo.config import RunConfig
from hbo.core.actors import actor_class
from hbo.errors import ConfigError
from hbo.rewards.choose import check_rewards
from hbo.run.arguments import adapter, training_arguments, typed
from hbo.run.packages import check_packages, check_stored
from hbo.scoring.models import model_config
from hbo.text import first_line


def checked_settings(config: RunConfig, *, elsewhere: bool = False) -> tuple[RunConfig, SFTConfig, LoraConfig | None]:
    """The configuration typed, what the trainer is given and the adapter, if all can be had.

    Where the run is meant for `elsewhere`, a package that is missing here is only warned of.

    Raises:
        ConfigError: Something can't.
    """
    config = typed(config)
    with _wanted_here(warned=elsewhere):
        check_packages(config.train)
    args = training_arguments(config)
    with _wanted_here(warned=elsewhere):
        _check_device(args)
    check_rewards(config.balance)
    actor_class(config.balance.actor.kind)
    rehearse(args)
    return config, args, adapter(config)


@contextmanager
def _wanted_here(*, warned: bool) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        if not warned:
            raise
        warnings.warn(f"a run on this machine would stop at once: {error}", UserWarning, stacklevel=4)


def _check_device(args: SFTConfig) -> None:
    if args.device.type == "cpu" and not trains_on_cpu():
        raise ConfigError(
            f"TRL {version('trl')} computes SFTTrainer's loss on a GPU only, and this run would be on a CPU; install "
            "another release, 1.16 or later, or 1.14 or earlier: pip install -U trl"
        )


def check_model(spec: str, args: SFTConfig, lora: LoraConfig | None) -> None:
    """Refuses a model that can't be loaded here, or that lacks a part that is asked for.

    Raises:
        ConfigError: A key asks for a part that the model doesn't have.
        ModelError: Its weights lie in a format for which a package is missing.
    """
    stated = model_config(spec, trust_remote_code=bool(args.trust_remote_code))
    check_stored(spec, stated)
    check_parts(spec, stated, args, lora)


def check_parts(spec: str, model: PretrainedConfig | None, args: SFTConfig, lora: LoraConfig | None) -> None:
    """Refuses what the trainer would find missing only when rows are read and scored.

    A model whose configuration can't be read (None), or that can't be made without its weights, is left to be loaded.

    Raises:
        ConfigError: A key asks for a part that the model doesn't have.
    """
    if model is None:
        return
    asked = args.router_aux_loss_coef != SFTConfig.router_aux_loss_coef  # the default is 0.001 with TRL 1.9
    if asked and args.router_aux_loss_coef and not hasattr(model.get_text_config(), "output_router_logits"):
        raise ConfigError(
            f"train.router_aux_loss_coef is {args.router_aux_loss_coef}, but {spec} has no experts whose loads could "
            "be balanced; leave it out"
        )
    if lora is not None:
        _check_adapter(spec, model, lora, trust_remote_code=bool(args.trust_remote_code))


def _check_adapter(spec: str, model: PretrainedConfig, lora: LoraConfig, *, trust_remote_code: bool) -> None:
    tried = deepcopy(lora)
    tried.init_lora_weights = False  # other ways look at the weights
    try:
        with torch.device("meta"):
            made = AutoModelForCausalLM.from_config(model, trust_remote_code=trust_remote_code)
    except Exception:  # a model that transformers doesn't know raises anything; loading it says what is wrong
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when it is done in earnest
            put_on = get_peft_model(made, tried)
    except ValueError as error:  # so peft says that the model lacks a part, or that it can't adapt it
        raise ConfigError(f"lora: {first_line(error)} (model {spec})") from None
    except Exception:  # what can't be done without weights
        return
    if isinstance(put_on.get_output_embeddings(), BaseTunerLayer):
        raise ConfigError(
            "lora.target_modules includes the output layer, whose adapter TRL would not train; leave it out, or "
            "train the whole layer (lora.modules_to_save: [lm_head])"
        )


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
