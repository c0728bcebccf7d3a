"""Where a model lies, and where what it is given is to be sent."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.tensor import DTensor


def device_of(model: nn.Module) -> torch.device:
    """Where a model's inputs are to be sent: where the first of its weights lies, or comes to when its turn is.

    Weights that accelerate offloads lie nowhere between their turns; those that FSDP offloads lie on the CPU then.
    """
    for parameter in model.parameters():
        if isinstance(parameter, DTensor) and parameter.device_mesh.device_type != parameter.device.type:
            return torch.device(parameter.device_mesh.device_type, torch.accelerator.current_device_index())
        if not parameter.is_meta:
            return parameter.device
    return next(model.parameters()).device


def to_device(model: nn.Module, device: torch.device) -> None:
    """Sends a model to a device, unless a `device_map` spreads it over several already."""
    if len(set(getattr(model, "hf_device_map", {}).values())) <= 1:
        model.to(device)


def is_whole(model: nn.Module) -> bool:
    """Whether no parameter is sharded over processes, which would all have to run the model alike."""
    return all(type(p) is nn.Parameter for p in model.parameters()) and not is_partitioned(model)


def is_partitioned(model: nn.Module) -> bool:
    """Whether DeepSpeed ZeRO-3 holds the parameters in parts."""
    return any(hasattr(p, "ds_id") for p in model.parameters())
