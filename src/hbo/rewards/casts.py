"""Weights cast to half precision once per measurement, not once per batch.

Autocast keeps its copies of the weights only where these require gradients, which during a measurement they don't.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hbo.rewards.untouched import is_whole

_WEIGHT = {nn.functional.linear: 1, torch.addmm: 2}  # its place among the arguments


def kept_casts(model: nn.Module) -> AbstractContextManager[Any]:
    """Under autocast, keeps what it makes of the model's weights; they must stay as they are meanwhile.

    A sharded model is left alone, since it is never whole in memory.

    Raises:
        Nothing.
    """
    device = next(model.parameters()).device.type
    keeps = is_whole(model) and torch.is_autocast_enabled(device)
    return KeptCasts(torch.get_autocast_dtype(device)) if keeps else nullcontext()


class KeptCasts(TorchFunctionMode):
    """Gives linear layers their weight in `dtype`, as autocast would."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        place = _WEIGHT.get(func)
        if place is not None and place < len(args) and self._is_cast(args[place]):
            args = (*args[:place], self._cast(args[place]), *args[place + 1 :])
        return func(*args, **(kwargs or {}))

    def _is_cast(self, weight: Any) -> bool:
        return (
            type(weight) is nn.Parameter
            and weight.dtype is torch.float32
            and not (weight.requires_grad and torch.is_grad_enabled())
            and torch.is_autocast_enabled(weight.device.type)
        )

    def _cast(self, weight: Tensor) -> Tensor:
        # The weight is kept as well, so that its id stays its own.
        if id(weight) not in self._kept:
            self._kept[id(weight)] = weight, weight.detach().to(self._dtype)
        return self._kept[id(weight)][1]
