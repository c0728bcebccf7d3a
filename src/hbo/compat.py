"""What differs between releases of the libraries that hbo stands on: a name or a function for each difference.

Everything else in hbo is written for the newest release. A comment names the release that changed it.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

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
