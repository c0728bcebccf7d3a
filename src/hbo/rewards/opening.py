"""What all rows of a batch begin with, a system prompt say, is multiplied by the weights once, not once per row.

The layers' values are compared, not only the token ids, so this holds whatever the model does. It is the forward alone
that is spared: in the backward each row has slopes of its own at these tokens.

Letters: B batch, T tokens, P tokens of the opening, I and O the sizes of a weight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_WORTHWHILE = 0.05  # of a batch's tokens; below it the copies cost what the products save


class Opening:
    """Linear layers of one forward pass, in fp32 on a CPU; elsewhere the comparison costs more than is gained."""

    def __init__(self, ids_BT: Tensor) -> None:
        P = 0
        if ids_BT.device.type == "cpu":
            differs_T = (ids_BT != ids_BT[:1]).any(dim=0)
            P = int(differs_T.int().argmax()) if differs_T.any() else 0
        self._shape = ids_BT.shape
        self._tokens = P if P * (len(ids_BT) - 1) >= _WORTHWHILE * ids_BT.numel() else 0
        self._last: tuple[Tensor, int, Tensor | None] | None = None  # an input, its version, and its rows packed

    def linear(self, x: Any, weight: Any, bias: Any = None) -> Tensor | None:
        """What `functional.linear` gives; None if it has to be asked itself.

        Raises:
            Nothing.
        """
        if not self._tokens or torch.is_autocast_enabled("cpu"):  # which a model may do for itself
            return None
        if type(x) is not Tensor or type(weight) not in (Tensor, nn.Parameter):
            return None
        if x.shape[:-1] != self._shape or not x.dtype is weight.dtype is torch.float32 or weight.requires_grad:
            return None
        packed = self._packed(x)
        return None if packed is None else _Product.apply(x, packed, weight, bias, self._tokens)  # type: ignore[no-any-return, no-untyped-call]

    def _packed(self, x_BTI: Tensor) -> Tensor | None:
        """The opening and then the rest of every row (P + B · (T − P), I); None if the rows' openings differ.

        Query, key and value read the same input.
        """
        if self._last is None or self._last[0] is not x_BTI or self._last[1] != x_BTI._version:
            self._last = x_BTI, x_BTI._version, self._pack(x_BTI.detach())
        return self._last[2]

    def _pack(self, x_BTI: Tensor) -> Tensor | None:
        P, (B, T, I) = self._tokens, x_BTI.shape  # noqa: E741 - the sizes as the file's docstring names them
        if not torch.equal(x_BTI[1:, :P], x_BTI[:1, :P].expand(B - 1, P, I)):
            return None
        packed = x_BTI.new_empty(P + B * (T - P), I)
        packed[:P] = x_BTI[0, :P]
        packed[P:].view(B, T - P, I).copy_(x_BTI[:, P:])
        return packed


class _Product(torch.autograd.Function):
    """A linear layer of packed rows, whose backward is that of the rows as they are."""

    @staticmethod
    def forward(ctx: Any, x_BTI: Tensor, packed: Tensor, weight_OI: Tensor, bias: Tensor | None, P: int) -> Tensor:
        ctx.save_for_backward(weight_OI)
        B, T, O = *x_BTI.shape[:2], len(weight_OI)  # noqa: E741
        product = functional.linear(packed, weight_OI, bias)
        out = product.new_empty(B, T, O)
        out[:, :P] = product[:P]
        out[:, P:] = product[P:].view(B, T - P, O)
        return out

    @staticmethod
    def backward(ctx: Any, slope_BTO: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        (weight_OI,) = ctx.saved_tensors
        return slope_BTO @ weight_OI, None, None, None, None
