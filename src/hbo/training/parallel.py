"""Ways to spread a model over devices that HBO can't work with, refused by name before anything is loaded.

What works is data-parallel: each process sees rows of its own, whether it holds the whole model (DDP) or gathers a
layer when it is that layer's turn (FSDP2, DeepSpeed ZeRO). A user may ask for more in the trainer's arguments, in what
`accelerate launch` leaves in the environment, or by the way in which the model was loaded; all three are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from transformers import Trainer, TrainingArguments

from hbo.compat import dimension, inner_model, parallelism_config
from hbo.errors import ConfigError
from hbo.scoring.head import output_layer

_SHARD = "shard with FSDP2 (fsdp: true, or fsdp_version 2 in accelerate's config) or with DeepSpeed ZeRO instead"
_SHORTEN = f"{_SHARD}, and let long rows fit by activation checkpointing or a smaller max_length"


@dataclass(frozen=True)
class _Way:
    name: str
    why: str = (
        "processes of a group share their rows or hold parts of layers, while HBO takes each to see rows of its own "
        "through whole layers"
    )
    instead: str = _SHARD


_FSDP1 = _Way(
    "FSDP1",
    "it keeps the parameters of several layers as one, of which no layer's gradient can be read, and sampling alone "
    "hasn't been tried under it",
    "set the version to 2, which shards as much",
)
_OFFLOADED = _Way(
    "offloading of weights",
    "gradients are read where weights lie, and these come and go",
    "leave device_map out; train with LoRA, or shard with FSDP2 or DeepSpeed ZeRO, if memory is short",
)
_COPIES = _Way(
    "DataParallel",
    "transformers would copy the model to each GPU and multiply the batch by their number",
)
_SPLITS = {
    "tp": _Way("tensor parallelism"),
    "cp": _Way("context parallelism", instead=_SHORTEN),
    "sp": _Way("sequence parallelism", instead=_SHORTEN),
    "pp": _Way("pipeline parallelism"),
    "ep": _Way("expert parallelism"),
    "fsdp": _Way("sharding at loading", "HBO scores rows on the whole model and leaves sharding to the trainer"),
}
"""As transformers and accelerate call, in their configurations, the dimensions along which a model is split."""
_Found = tuple[_Way, str]


def check_parallelism(args: TrainingArguments, trainer: Trainer | None = None) -> None:
    """Refuses a model spread in a way that HBO can't measure or feed, static methods included.

    Args:
        args: What training is asked for; the environment is looked at too.
        trainer: Where there is one already, its model and accelerator are asked too.

    Raises:
        ConfigError: Says what is set where, why that can't be, and what to do instead.
    """
    for way, where in chain(_asked(args), () if trainer is None else _built(trainer)):
        _refuse(way, where)


def check_placement(model: nn.Module) -> None:
    """Refuses a model of whose trainable weights some are offloaded: only a hook knows where they lie.

    Raises:
        ConfigError: Names the first.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.is_meta:
            _refuse(_OFFLOADED, f"{name} lies on no device, but on the CPU or a disk")


def tell_deepspeed_of_head(model: Any) -> None:
    """Tells DeepSpeed ZeRO-3 that the model's forward reads the head's weight outside of the head's own call.

    TRL's loss does. DeepSpeed would find out in the first training step, if the weight isn't whole then; after a
    measurement it may have been fetched already, is let go again, and missing in the backward.
    """
    inner = inner_model(model)
    head = output_layer(inner)
    if head is not None and hasattr(getattr(head, "weight", None), "ds_id"):
        import deepspeed  # type: ignore[import-not-found]

        for parameter in head.parameters(recurse=False):
            deepspeed.zero.register_external_parameter(inner, parameter)


def _refuse(way: _Way, where: str) -> None:
    raise ConfigError(f"{way.name} ({where}) doesn't work with HBO: {way.why}; {way.instead}")


def _asked(args: TrainingArguments) -> Iterator[_Found]:
    """What the arguments and the launcher ask for."""
    if args.fsdp and int(args.fsdp_config.get("version", 2)) == 1:
        yield _FSDP1, "fsdp_config.version is 1"
    if not args.fsdp and _is_on("ACCELERATE_USE_FSDP") and _number("FSDP_VERSION") == 1:
        yield _FSDP1, "accelerate's fsdp_version is 1, its default"
    if (asked := parallelism_config(args)) is not None:
        yield from _dimensions(asked, "parallelism_config")
    elif _is_on("ACCELERATE_USE_PARALLELISM_CONFIG"):
        sizes = {f"{kind}_size": _number(f"PARALLELISM_CONFIG_{kind.upper()}_SIZE") for kind in ("tp", "cp", "sp")}
        yield from _dimensions(sizes, "accelerate's parallelism_config")
    if _is_on("ACCELERATE_USE_MEGATRON_LM"):
        yield _Way("Megatron-LM"), "accelerate's distributed_type is MEGATRON_LM"
    if args.deepspeed_plugin is not None:
        yield from _deepspeed(args.deepspeed_plugin.hf_ds_config.config)
    yield from _loading(getattr(args, "model_init_kwargs", None) or {})  # SFTConfig's and its like's


def _built(trainer: Trainer) -> Iterator[_Found]:
    """What a trainer and its model turn out to be."""
    accelerator = trainer.accelerator
    if trainer.args.n_gpu > 1:
        count = trainer.args.n_gpu
        instead = f"start a process for each GPU (torchrun --nproc_per_node {count} …), or set CUDA_VISIBLE_DEVICES=0"
        yield replace(_COPIES, instead=instead), f"{count} GPUs are visible to one process"
    if trainer.is_fsdp_enabled and accelerator.state.fsdp_plugin.fsdp_version == 1:
        yield _FSDP1, "the accelerator's fsdp_version is 1"
    if (built := parallelism_config(accelerator)) is not None:
        yield from _dimensions(built, "the accelerator's parallelism_config")
    for name, module in trainer.model.named_modules():
        if isinstance(module, FullyShardedDataParallel):
            yield _FSDP1, f"{name or 'the model'} is a FullyShardedDataParallel"
        if getattr(module, "is_distributed_loading_by_transformers", False):  # Trainer asks for it in the same way
            yield _SPLITS["fsdp"], "the model was loaded with a distributed_config"


def _dimensions(config: Any, where: str, kinds: Sequence[str] = ("tp", "cp", "sp")) -> Iterator[_Found]:
    """Those of these dimensions along which a configuration splits; of a ParallelismConfig others are data-parallel."""
    for kind in kinds:
        if (size := int(_field(config, f"{kind}_size") or 1)) > 1:
            yield _SPLITS[kind], f"{where}.{kind}_size is {size}"


def _deepspeed(config: Mapping[str, Any]) -> Iterator[_Found]:
    if (tensor := (config.get("tensor_parallel") or {}).get("autotp_size", 1)) > 1:
        yield _SPLITS["tp"], f"DeepSpeed's tensor_parallel.autotp_size is {tensor}"
    if (sequence := config.get("sequence_parallel_size", 1)) > 1:
        yield _SPLITS["sp"], f"DeepSpeed's sequence_parallel_size is {sequence}"


def _loading(options: Mapping[str, Any]) -> Iterator[_Found]:
    """What `from_pretrained` is asked to do with a model."""
    for option in ("tp_plan", "tp_size"):
        if options.get(option) not in (None, 1):
            yield _SPLITS["tp"], f"model_init_kwargs.{option} is {options[option]}"
    if (config := options.get("distributed_config")) is not None:
        where = "model_init_kwargs.distributed_config"
        if _field(config, "tp_plan"):
            yield _SPLITS["tp"], f"{where}.tp_plan is set"
        yield from _dimensions(config, where, ("tp", "pp", "ep", "fsdp"))
        if _field(config, "enable_expert_parallel"):
            yield _SPLITS["ep"], f"{where}.enable_expert_parallel is true"
    places = options.get("device_map")
    if isinstance(places, Mapping):
        elsewhere = [name for name, place in places.items() if place in ("cpu", "disk")]
        # All on the CPU is no offloading; all on a disk is.
        if elsewhere and len(set(places.values()) - {"cpu"}):
            yield _OFFLOADED, f"model_init_kwargs.device_map puts '{elsewhere[0]}' on {places[elsewhere[0]]}"


def _field(config: Any, name: str) -> Any:
    """A field of a configuration that YAML gives as a mapping and Python as an object."""
    return config.get(name) if isinstance(config, Mapping) else dimension(config, name)


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() == "true"


def _number(variable: str) -> int:
    return int(os.environ.get(variable, "1"))
