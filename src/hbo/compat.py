"""What differs between releases of the libraries that hbo stands on: a name or a function for each difference.

Everything else in hbo is written for the newest release. A comment names the release that changed it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

# Name → where it is, then where it was. Loaded on first use, since torch takes its time.
_MOVED = {
    "DTensor": ("torch.distributed.tensor", "torch.distributed._tensor"),  # public since torch 2.5
    "FSDPModule": ("torch.distributed.fsdp", "torch.distributed._composable.fsdp"),  # since torch 2.6
}


def __getattr__(name: str) -> Any:
    for place in _MOVED.get(name, ()):
        if (found := getattr(importlib.import_module(place), name, None)) is not None:
            return found
    raise AttributeError(f"module 'hbo.compat' has no attribute '{name}'")


def has_json() -> bool:
    """Whether a column can hold JSON of any shape."""
    import datasets

    return hasattr(datasets, "Json")  # since datasets 4.7


def list_of(feature: Any) -> Any:
    """The feature of a list of these."""
    import datasets

    # datasets 4.0: `List` came; until then a list with one feature in it said the same, or `Sequence`.
    return datasets.List(feature) if hasattr(datasets, "List") else [feature]


def is_list(feature: Any) -> bool:
    """Whether a column's feature is that of a list."""
    import datasets

    return isinstance(feature, datasets.List if hasattr(datasets, "List") else list | datasets.Sequence)


def dequantizing() -> dict[str, Any]:
    """What `from_pretrained` is given, beside `gguf_file`, for weights as plain floats."""
    import transformers

    # transformers 5.21: weights of a GGUF file may stay quantized; until then they never do.
    quantized = hasattr(transformers, "GgufConfig")
    return {"quantization_config": transformers.GgufConfig(dequantize=True)} if quantized else {}


def click() -> Any:
    """The click that typer stands on."""
    import typer

    return getattr(typer, "_click", None) or importlib.import_module("click")  # its own since typer 0.26


def loaded_in(dtype: Any) -> dict[str, Any]:
    """What `from_pretrained` is given for weights of this type."""
    import transformers

    major, minor = transformers.__version__.split(".")[:2]
    return {"torch_dtype" if (int(major), int(minor)) < (4, 56) else "dtype": dtype}  # transformers 4.56


def loses_last_step() -> bool:
    """Whether a Trainer that resumes inside an epoch leaves out its last step, if that has fewer batches."""
    import transformers

    major, minor = transformers.__version__.split(".")[:2]
    return (int(major), int(minor)) < (4, 57)  # 4.57 counts an epoch's batches from where the run goes on


def accelerator() -> Any:
    """The device of the GPU or the like that can be used here; None: there is none."""
    import torch

    here: Any = getattr(torch, "accelerator", None)  # since torch 2.6
    if here is None:
        return torch.device("cuda") if torch.cuda.is_available() else None
    # Without this question a torch that is built for GPUs names one where there is none.
    return here.current_accelerator() if here.is_available() else None


def eager() -> AbstractContextManager[Any]:
    """Inside, compiled layers run as they were written."""
    import torch

    # torch 2.6: `set_stance` came; until then compiled layers are compiled anew where hooks hang on them.
    stance: Any = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if stance is None else stance("force_eager")


def checkpointing_option() -> str:
    """What TrainingArguments calls computing activations twice."""
    from transformers import TrainingArguments

    new = "activation_checkpointing"  # since transformers 5.23
    return new if new in TrainingArguments.__dataclass_fields__ else "gradient_checkpointing"


def sampling_strategy(args: Any) -> str:
    """In which order a trainer with these arguments takes its rows: `random`, or by another name."""
    # transformers 5.0: `train_sampling_strategy` came, of which `group_by_length` had been one choice.
    old = "group_by_length" if getattr(args, "group_by_length", False) else "random"
    return str(getattr(args, "train_sampling_strategy", old))


def rope_parameters(config: Any) -> Any:
    """The parameters of a model's rotary layers, those of one kind or by kind; None: it has no such layers."""
    # transformers 5.0: `rope_parameters` came, for `rope_theta` with `rope_scaling`.
    is_old = getattr(config, "rope_parameters", None) is None and getattr(config, "rope_theta", None) is not None
    old = {"rope_type": "default", **(getattr(config, "rope_scaling", None) or {})} if is_old else None
    return getattr(config, "rope_parameters", None) or old


def loose_tensors(model: Any) -> Iterator[tuple[str, Any]]:
    """Tensors of a model that are neither parameters nor buffers, with the names of the attributes that hold them."""
    import torch

    # transformers 5.0: GPT-J's table of positions and its like became buffers.
    held = (named for module in model.modules() for named in vars(module).items())
    return ((name, value) for name, value in held if isinstance(value, torch.Tensor))


def body_of(model: Any) -> Any:
    """A language model without its head."""
    # transformers 4.56: Gemma 3's text model names its body; until then the decoder is to be asked for.
    body = model.base_model
    return model.get_decoder() if body is model else body


def cache_of(layers: Sequence[tuple[Any, Any]]) -> Any:
    """A model's cache that holds these keys and values, a pair for each layer; they aren't copied."""
    from transformers import DynamicCache

    cache: Any = DynamicCache(layers)
    cache.layers = cache.layers[-len(layers) :]  # transformers 4.55 puts an empty one before those it is given
    return cache


def with_thought(message: Mapping[str, Any]) -> dict[str, Any]:
    """A turn with its thought under both names that chat templates read."""
    # transformers 5.21 does so itself, and not before.
    thought = message.get("reasoning_content")
    return {**message} if thought is None else {"thinking": thought, **message}


# What SFTTrainer asks, in `trl.trainer.utils`, whether its head leaves out tokens that are no targets: since trl 1.16.
# Before 1.15 its default loss leaves them out on every device.
HEAD_CHOICE = "_use_triton"


def trains_on_cpu() -> bool:
    """Whether this release's SFTTrainer has a loss that a CPU can compute."""
    # trl 1.15: the loss became a kernel of Triton's; trl 1.16: one of torch's came beside it.
    return hasattr(_trl(), HEAD_CHOICE) or not hasattr(_trl(), "FusedCausalLMOutput")


def hides_token_losses(args: Any) -> bool:
    """Whether SFTTrainer's passes with these arguments show no token's loss, so that none of a dataset is logged."""
    # trl 1.15: passes show each token's loss; until then only `nll`, which isn't the default, shows logits.
    return not hasattr(_trl(), "FusedCausalLMOutput") and bool(args.loss_type != "nll")


def loss_kinds(config: Any) -> dict[str, Any]:
    """What `loss_type` of SFTConfig takes, where the class doesn't say so itself."""
    if "choices" in config.__dataclass_fields__["loss_type"].metadata:  # since trl 1.15
        return {}
    return {"loss_type": Literal["nll", "dft", "chunked_nll"] | None}


def _trl() -> Any:
    return importlib.import_module("trl.trainer.utils")


def parallelism_config(holder: Any) -> Any:
    """That of training arguments or an accelerator; None: there is none."""
    return getattr(holder, "parallelism_config", None)  # accelerate 1.10, transformers 4.56


def dimension(config: Any, name: str) -> Any:
    """A field of a ParallelismConfig; None where this release has no such dimension."""
    return getattr(config, name, None)  # accelerate 1.12: `sp_size` came


def is_peft(model: Any) -> bool:
    """Whether a model is PEFT's wrapper around another; PEFT isn't loaded to find out."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)


def inner_model(model: Any) -> Any:
    """The model that PEFT's wrapper holds, its layers adapted; any other model as it is."""
    return model.get_base_model() if is_peft(model) else model
