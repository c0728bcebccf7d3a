"""Where a model lies, and in which precision a scorer runs there: bf16 where the processor multiplies in it, else fp32.

bf16 keeps three significant digits, which is enough to sort rows by difficulty. On a processor without such
instructions it is emulated, and slower than fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hbo.compat import DTensor
from hbo.errors import ConfigError
from hbo.text import counted, nearest

Precision = Literal["auto", "bf16", "fp32"]
"""`auto` is bf16 where it is native, else fp32."""


def is_bf16_native(device: torch.device | str) -> bool:
    """Whether the processor behind `device` multiplies in bf16 by itself."""
    match torch.device(device).type:
        case "cuda":
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        case "cpu":
            found: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.8 hasn't got it yet
            return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        case _:
            return False


def uses_bf16(device: torch.device | str, precision: Precision) -> bool:
    """Whether a scorer on `device` runs in bf16.

    Raises:
        ConfigError: `precision` isn't one of the three.

    Example:
        >>> uses_bf16("cpu", "bf16"), uses_bf16("cpu", "fp32")
        (True, False)
    """
    if precision not in get_args(Precision):
        known = get_args(Precision)
        raise ConfigError(f"precision is {precision!r}; choose one of {', '.join(known)}{nearest(precision, known)}")
    return precision == "bf16" or (precision == "auto" and is_bf16_native(device))


def scoring_autocast(device: torch.device | str, precision: Precision) -> torch.autocast:
    """What a scorer on `device` runs under; weights stay as they are. It refuses a precision as `uses_bf16` does."""
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=uses_bf16(device, precision))


@dataclass(frozen=True)
class Autocast:
    """The autocast under which something ran, to be entered again."""

    device: str
    """Its kind, such as `cuda`."""
    dtype: torch.dtype
    """What factors of matrix products become."""
    enabled: bool

    @classmethod
    def now(cls, device: torch.device) -> Autocast:
        """As it is where this is called."""
        kind = device.type
        return cls(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))

    def again(self) -> torch.autocast:
        """The same, to be entered."""
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.enabled)

    def multiplied(self, tensor: Tensor) -> Tensor:
        """What a matrix product makes of its factor."""
        return tensor.to(self.dtype) if self.enabled and tensor.is_floating_point() else tensor


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


def device_told(device: torch.device) -> str:
    """What people call a device: a GPU by its name.

    Example:
        >>> device_told(torch.device("cpu")).startswith("the CPU (")
        True
    """
    match device.type:
        case "cuda":
            return f"a GPU ({torch.cuda.get_device_name(device)})"
        case "cpu":
            return f"the CPU ({counted(torch.get_num_threads(), 'thread')})"
        case other:
            return f"a device of the kind '{other}'"


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
