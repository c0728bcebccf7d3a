"""`train:` and `lora:` of a configuration → what TRL and PEFT take."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from trl import SFTConfig

from hbo.config import RunConfig
from hbo.errors import ConfigError, first_line, nearest
from hbo.scoring.precision import is_bf16_native
from hbo.training.attach import check_dispatching, check_packing_options, check_stream_options
from hbo.training.parallel import check_parallelism

_OLD, _NEW = "gradient_checkpointing", "activation_checkpointing"
CHECKPOINTING = _NEW if _NEW in SFTConfig.__dataclass_fields__ else _OLD
"""What this release of transformers calls computing activations twice; the name changed in 5.23."""


def training_arguments(config: RunConfig) -> SFTConfig:
    """`train:` as SFTConfig, with the run's folder and seed.

    Raises:
        ConfigError: A key isn't SFTConfig's, or it refuses a value.
    """
    # YAML reads a bare `no` as false, and `save_strategy: no` is what everybody writes.
    given: dict[str, Any] = {
        key: "no" if value is False and key.endswith("_strategy") else value for key, value in config.train.items()
    }
    if CHECKPOINTING == _OLD:
        given = {key.replace(_NEW, _OLD): value for key, value in given.items()}
    refuse_unknown("train", given, SFTConfig, "trl.SFTConfig")
    if config.global_batch_size is not None:
        if "gradient_accumulation_steps" in given:
            raise ConfigError(
                "global_batch_size sets train.gradient_accumulation_steps, which is set too; leave one of them out"
            )
        batch = given.get("per_device_train_batch_size", SFTConfig.per_device_train_batch_size)
        processes = int(os.environ.get("WORLD_SIZE", "1"))  # asked before SFTConfig, which wants the result
        given["gradient_accumulation_steps"] = batches_per_step(config.global_batch_size, batch, processes)
    if "trust_remote_code" in (given.get("model_init_kwargs") or ()):
        raise ConfigError(
            "train.model_init_kwargs.trust_remote_code: write train.trust_remote_code, which holds for the "
            "tokenizer too"
        )
    if given.get("output_dir", config.output) != config.output:
        raise ConfigError("train.output_dir differs from output; leave it out, a run has one folder")
    # Our rows are tokenised, labelled and truncated already.
    prepared = {**(given.pop("dataset_kwargs", None) or {}), "skip_prepare_dataset": True}
    defaults: dict[str, Any] = {
        "seed": config.seed,
        "disable_tqdm": True,
        "use_cpu": not torch.accelerator.is_available(),  # without it transformers refuses bf16 on a CPU
        "dataloader_pin_memory": torch.cuda.is_available(),  # torch warns at every epoch where there is nothing to pin
    }
    if given.get("use_cpu", defaults["use_cpu"]) and not is_bf16_native("cpu"):
        defaults["bf16"] = False  # TRL's default is true, which is several times slower where it has to be emulated
    try:
        args = SFTConfig(**{**defaults, **given, "output_dir": config.output, "dataset_kwargs": prepared})
    except Exception as error:  # it checks its values by using them, so anything may come out
        raise ConfigError(f"train: {first_line(error)}") from None
    use_one_gpu(args)
    check_parallelism(args)
    check_packing_options(args)
    check_dispatching(args)
    check_stream_options(args, config.balance)
    if config.difficulty.drop_easiest and args.packing and args.max_steps <= 0:
        raise ConfigError(
            "difficulty.drop_easiest keeps the number of steps, but with packing that depends on what is dropped; set "
            "train.max_steps"
        )
    unset_hf_deepspeed_config()  # under ZeRO-3 models would be loaded in parts, but rows are scored on whole ones
    return args


def is_checkpointing(args: SFTConfig) -> bool:
    """Whether activations are computed twice."""
    return bool(getattr(args, CHECKPOINTING))


def batches_per_step(global_batch_size: int, batch: Any, processes: int) -> int:
    """Batches of each process per optimizer step, with which a step has the same rows for any number of processes.

    Raises:
        ConfigError: There is no such whole number.

    Example:
        >>> batches_per_step(64, 2, 8)
        4
    """
    if not isinstance(batch, int) or batch < 1 or global_batch_size % (batch * processes):
        raise ConfigError(
            f"global_batch_size is {global_batch_size}, which {processes} process{'es' * (processes > 1)} can't share "
            f"in batches of train.per_device_train_batch_size = {batch}; choose one that, times {processes}, divides "
            f"{global_batch_size}"
        )
    return global_batch_size // (batch * processes)


def use_one_gpu(args: SFTConfig) -> None:
    """Lets a process that sees several GPUs train on the first, with the batch that was asked for.

    transformers would put a copy of the model and a batch of its own on each (DataParallel): as many rows more to a
    step, of which nothing was said, and losses per dataset could not be read off the copies. A model that `device_map`
    spreads over several stays so.
    """
    if args.n_gpu <= 1:
        return
    count, args._n_gpu = args.n_gpu, 1  # as transformers does for a model that is spread
    if not (args.model_init_kwargs or {}).get("device_map"):
        warnings.warn(
            f"{count} GPUs are visible and this is one process, so only {args.device} is used, with the batch that was "
            f"asked for; start a process for each with: torchrun --nproc_per_node={count} -m hbo train CONFIG, or "
            "accelerate launch -m hbo train CONFIG",
            UserWarning,
            stacklevel=2,
        )


def adapter(config: RunConfig) -> LoraConfig | None:
    """`lora:` as LoraConfig.

    Raises:
        ConfigError: A key isn't LoraConfig's, or it refuses a value.
    """
    if config.lora is None:
        return None
    refuse_unknown("lora", config.lora, LoraConfig, "peft.LoraConfig")
    try:
        return LoraConfig(**{"task_type": "CAUSAL_LM", **config.lora})
    except Exception as error:  # it checks its values by using them, so anything may come out
        raise ConfigError(f"lora: {first_line(error)}") from None


def refuse_unknown(section: str, given: Mapping[str, Any], owner: Any, name: str) -> None:
    """Refuses a key of `section` that is no field of the dataclass `owner`, which users know as `name`.

    Raises:
        ConfigError: There is such a key; the nearest field is named.
    """
    known = owner.__dataclass_fields__
    for key in given:
        if key not in known:
            raise ConfigError(
                f"unknown key '{section}.{key}'{nearest(key, known)}; {section}: takes the fields of {name}"
            )
