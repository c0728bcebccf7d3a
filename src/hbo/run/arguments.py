"""`train:` and `lora:` of a configuration → what TRL and PEFT take."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from copy import copy
from typing import Any, Literal

import torch
from peft import LoraConfig
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from trl import SFTConfig

from hbo.compat import accelerator, checkpointing_option
from hbo.config import RunConfig
from hbo.errors import ConfigError
from hbo.run.field_types import built, fit, fit_all, kinds_of
from hbo.run.train_keys import FORMER, KINDS, LORA_KINDS, check_keys, reaches_trainer, without_effect
from hbo.scoring.devices import is_bf16_native
from hbo.text import first_line
from hbo.training.checks import check_options
from hbo.training.parallel import check_parallelism

_OLD, _NEW = "gradient_checkpointing", "activation_checkpointing"
CHECKPOINTING = checkpointing_option()
"""What this release of transformers calls computing activations twice."""
_OTHER = _OLD if CHECKPOINTING == _NEW else _NEW


def typed(config: RunConfig) -> RunConfig:
    """`config` with each value of `train:` and `lora:` as the field of that name takes it.

    Raises:
        ConfigError: A key is none of SFTConfig or LoraConfig, or can't be had; or a value is none that it takes.
    """
    given: dict[str, Any] = {}
    for key, value in config.train.items():
        if key in FORMER and key not in SFTConfig.__dataclass_fields__:
            raise ConfigError(f"unknown key 'train.{key}': {FORMER[key]}")
        name = key.replace(_OTHER, CHECKPOINTING)
        if name in given and given[name] != value:
            raise ConfigError(f"train.{key} and train.{name} are the same option but differ; leave one of them out")
        given[name] = value
    train = fit_all(given, SFTConfig, "train", "trl.SFTConfig", KINDS)
    check_keys(train)
    if train.get("report_to", "none") is None:
        train["report_to"] = "none"  # which transformers takes for the name of a tracker
    if train.get("model_init_kwargs"):
        train["model_init_kwargs"] = _loading(train["model_init_kwargs"])
    lora = None if config.lora is None else fit_all(config.lora, LoraConfig, "lora", "peft.LoraConfig", LORA_KINDS)
    return config.model_copy(update={"train": train, "lora": lora})


def _loading(given: dict[str, Any]) -> dict[str, Any]:
    """What `from_pretrained` is given for the model, its former names and `torch.bfloat16` understood."""
    key = "train.model_init_kwargs"
    if "trust_remote_code" in given:
        raise ConfigError(f"{key}.trust_remote_code: write train.trust_remote_code, which holds for the tokenizer too")
    found = {("dtype" if name == "torch_dtype" else name): value for name, value in given.items()}
    if len(found) < len(given):
        raise ConfigError(f"{key}.torch_dtype is the former name of dtype, which is given too; leave it out")
    if "dtype" in found:
        name = str(found["dtype"]).removeprefix("torch.")
        found["dtype"] = fit(name, Literal["float32", "bfloat16", "float16", "float64"], f"{key}.dtype")
    return found


def training_arguments(config: RunConfig) -> SFTConfig:
    """What the trainer is given of `train:`, with the run's folder and seed.

    Raises:
        ConfigError: A key isn't SFTConfig's, or can't be had; or a value is refused.
    """
    kinds = kinds_of(SFTConfig) | KINDS
    own = typed(config).train
    given = {key: built(value, kinds[key]) for key, value in own.items() if reaches_trainer(key)}
    if given.get("output_dir", config.output) != config.output:
        raise ConfigError("train.output_dir differs from output; leave it out, a run has one folder")
    # Our rows are tokenised, labelled and truncated already.
    prepared = {"output_dir": config.output or "runs/unnamed", "dataset_kwargs": {"skip_prepare_dataset": True}}
    options = {**_defaults(config, given), **given, **_accumulation(config, given), **prepared}
    try:
        args = SFTConfig(**options)
    except Exception as error:  # it checks its values by using them, so anything may come out
        raise ConfigError(f"train: {first_line(error)}") from None
    for sentence in without_effect(own, SFTConfig.__dataclass_fields__):
        warnings.warn(sentence, UserWarning, stacklevel=2)
    use_one_gpu(args)
    check_parallelism(args)
    check_options(args, config.balance)
    if config.difficulty.drop_easiest and args.packing and args.max_steps <= 0:
        raise ConfigError(
            "difficulty.drop_easiest keeps the number of steps, but with packing that depends on what is dropped; set "
            "train.max_steps"
        )
    unset_hf_deepspeed_config()  # under ZeRO-3 models would be loaded in parts, but rows are scored on whole ones
    return args


def _defaults(config: RunConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a key is that was left out, where TRL's default would not do."""
    defaults: dict[str, Any] = {
        "seed": config.seed,
        "disable_tqdm": True,
        "use_cpu": accelerator() is None,  # without it transformers refuses bf16 on a CPU
        "dataloader_pin_memory": torch.cuda.is_available(),  # torch warns at every epoch where there is nothing to pin
    }
    if given.get("use_cpu", defaults["use_cpu"]) and not is_bf16_native("cpu"):
        defaults["bf16"] = False  # TRL's default is true, which is several times slower where it has to be emulated
    return defaults


def _accumulation(config: RunConfig, given: Mapping[str, Any]) -> dict[str, int]:
    """The gradient accumulation that makes up `global_batch_size`, if that is set."""
    if config.global_batch_size is None:
        return {}
    if "gradient_accumulation_steps" in given:
        raise ConfigError(
            "global_batch_size sets train.gradient_accumulation_steps, which is set too; leave one of them out"
        )
    batch = given.get("per_device_train_batch_size", SFTConfig.per_device_train_batch_size)
    processes = int(os.environ.get("WORLD_SIZE", "1"))  # asked before SFTConfig, which wants the result
    return {"gradient_accumulation_steps": batches_per_step(config.global_batch_size, batch, processes)}


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
            f"global_batch_size is {global_batch_size}, which isn't a multiple of {processes} "
            f"process{'es' * (processes > 1)} times train.per_device_train_batch_size = {batch}; change one of them"
        )
    return global_batch_size // (batch * processes)


def for_trainer(args: SFTConfig) -> SFTConfig:
    """The same for SFTTrainer, which would think that nobody cuts rows that are batched without padding."""
    if not args.padding_free or args.packing:
        return args
    given = copy(args)
    given.max_length = None
    return given


def draw_seed(config: RunConfig, args: SFTConfig) -> int:
    """The seed of every draw."""
    return config.seed if args.data_seed is None else int(args.data_seed)


def is_checkpointing(args: SFTConfig) -> bool:
    """Whether activations are computed twice."""
    return bool(getattr(args, CHECKPOINTING))


def steps_of(args: SFTConfig, rows: int) -> int:
    """Optimizer steps that training on `rows` rows takes."""
    if args.max_steps > 0:
        return int(args.max_steps)
    batches = math.ceil(rows / (args.per_device_train_batch_size * args.world_size))
    steps: int = math.ceil(args.num_train_epochs * math.ceil(batches / args.gradient_accumulation_steps))
    return steps


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
            f"{count} GPUs are visible to this one process, which uses {args.device} only, with the "
            f"batch that was asked "
            f"for; to use all: torchrun --nproc_per_node {count} -m hbo train CONFIG (or accelerate "
            f"launch -m hbo train "
            "CONFIG); to train on one without this warning: CUDA_VISIBLE_DEVICES=0",
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
    kinds = kinds_of(LoraConfig)
    given = {key: built(value, kinds[key]) for key, value in (typed(config).lora or {}).items()}
    try:
        return LoraConfig(**{"task_type": "CAUSAL_LM", **given})
    except Exception as error:  # it checks its values by using them, so anything may come out
        raise ConfigError(f"lora: {first_line(error)}") from None
