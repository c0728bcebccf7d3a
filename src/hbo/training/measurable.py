"""Which rewards a trainer's loss allows, and trainers whose rows have none before training makes something of them."""

from __future__ import annotations

from typing import Any

from transformers import Trainer

from hbo.config import HBOConfig
from hbo.config.rewards import REWARDS, is_of_the_run, spec_of
from hbo.errors import ConfigError
from hbo.training.ways import Way

_STATIC = "choose a method that measures nothing (proportional, temperature, uniform, stratified)"
_GENERATES = "trains on completions that it generates itself, so a row has no loss before"
_ROLLS_OUT = "takes its batches from a worker that generates them, so a row has no loss before"
_UNMEASURED = {
    "GRPOTrainer": _GENERATES,
    "RLOOTrainer": _GENERATES,
    "PPOTrainer": _GENERATES,
    "OnlineDPOTrainer": _GENERATES,
    "DistillationTrainer": _GENERATES,
    "GOLDTrainer": _GENERATES,
    "IWOPDTrainer": _GENERATES,
    "SDFTTrainer": _GENERATES,
    "SDPOTrainer": _GENERATES,
    "A2POTrainer": _GENERATES,
    "AsyncGRPOTrainer": _ROLLS_OUT,
    "AsyncDistillationTrainer": _ROLLS_OUT,
}
"""TRL's trainers that can't be measured, with all that derive from them: name → why, after the trainer's name."""


def measured_config(trainer: Trainer, config: HBOConfig, way: Way) -> HBOConfig:
    """`config` as it holds for this trainer: a default that presumes a token loss gives way to one that doesn't.

    The exponential of a loss that is no mean over tokens is no perplexity, so where nobody chose a local reward it is
    the loss itself that is taken over its start: `loss_ratio`.

    Raises:
        ConfigError: The trainer's rows can't be measured, or not for what was chosen.
    """
    if config.is_static:
        return config
    name = type(trainer).__name__
    if why := _unmeasured(trainer):
        raise ConfigError(f"{name} {why}; {_STATIC}")
    if way.alone is None:
        return config
    what = f"{name} is measured one row at a time, because {way.alone}"
    if not way.is_token_mean:
        what = f"{name}'s loss isn't a mean over target tokens"
        if config.local_reward == "perplexity_ratio" and "local_reward" not in config.model_fields_set:
            config = config.model_copy(update={"local_reward": "loss_ratio"})
    if config.rewards == "stream":
        raise ConfigError(
            f"balance.rewards is 'stream', but {what}, so it can't be read off the batches; set it to probe"
        )
    # What can be streamed needs no more of a row than a loss that is a mean over tokens and the norm of its gradient.
    fitting = {
        name: spec
        for name, spec in REWARDS.items()
        if (spec.is_streamable if way.is_token_mean else spec.fits_any_loss)
    }
    for key in ("global_reward", "local_reward"):
        reward, spec = getattr(config, key), spec_of(getattr(config, key))
        is_named = isinstance(reward, str) and ":" not in reward
        if (is_named or spec) and spec not in fitting.values() and not is_of_the_run(reward):
            raise ConfigError(
                f"balance.{key} is '{reward}', but {what}; choose one of {', '.join(fitting)}, or write "
                "pkg.module:function"
            )
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ConfigError(
            f"{name} is measured one row at a time, because {way.alone}, which needs the whole model, and no "
            "process has that under FSDP or DeepSpeed; train without them, or choose a static method"
        )
    return config


def _unmeasured(trainer: Any) -> str | None:
    """Why no row of this trainer has a loss yet; None where it may have one."""
    for kind in type(trainer).__mro__:
        if not kind.__module__.startswith("trl."):
            continue
        if kind.__name__ in _UNMEASURED:
            return _UNMEASURED[kind.__name__]
        if kind.__name__ == "GKDTrainer" and (trainer.lmbda >= 1 or trainer.seq_kd):
            return (
                f"with lmbda {trainer.lmbda:g} and seq_kd {trainer.seq_kd} never trains on the completions in its rows"
            )
    return None
