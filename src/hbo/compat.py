"""What differs between releases of the libraries that hbo stands on: a name or a function for each difference.

Everything else in hbo is written for the newest release. A comment names the release that changed it.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import datasets

# Name → where it is, then where it was. Loaded on first use, since torch takes its time.
_MOVED = {
    "DTensor": ("torch.distributed.tensor", "torch.distributed._tensor"),  # public since torch 2.5
    "FSDPModule": ("torch.distributed.fsdp", "torch.distributed._composable.fsdp"),  # since torch 2.6
}

# datasets 4.0: `List` came; until then a list with one feature in it said the same, or `Sequence`.
_LISTS: tuple[type, ...] = (datasets.List,) if hasattr(datasets, "List") else (list, datasets.Sequence)

# datasets 4.7: `Json` came.
HAS_JSON = hasattr(datasets, "Json")
"""Whether a column can hold JSON of any shape."""


def __getattr__(name: str) -> Any:
    for place in _MOVED.get(name, ()):
        if (found := getattr(importlib.import_module(place), name, None)) is not None:
            return found
    raise AttributeError(f"module 'hbo.compat' has no attribute '{name}'")


def list_of(feature: Any) -> Any:
    """The feature of a list of these."""
    return datasets.List(feature) if hasattr(datasets, "List") else [feature]


def is_list(feature: Any) -> bool:
    """Whether a column's feature is that of a list."""
    return isinstance(feature, _LISTS)


def dequantizing() -> dict[str, Any]:
    """What `from_pretrained` is given, beside `gguf_file`, for weights as plain floats."""
    import transformers

    # transformers 5.21: weights of a GGUF file may stay quantized; until then they never do.
    quantized = hasattr(transformers, "GgufConfig")
    return {"quantization_config": transformers.GgufConfig(dequantize=True)} if quantized else {}


def is_peft(model: Any) -> bool:
    """Whether a model is PEFT's wrapper around another; PEFT isn't loaded to find out."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)


def inner_model(model: Any) -> Any:
    """The model that PEFT's wrapper holds, its layers adapted; any other model as it is."""
    return model.get_base_model() if is_peft(model) else model
