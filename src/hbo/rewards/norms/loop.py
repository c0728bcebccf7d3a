"""Gradient norms by plain autograd, one row at a time, each parameter's gradient squared and dropped as it comes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from hbo.rewards.norms.batched import recomputing
from hbo.rewards.norms.head import slopes_in_place
from hbo.rewards.norms.left_as_found import resharded
from hbo.rewards.norms.outer_products import square
from hbo.scoring.devices import is_partitioned
from hbo.scoring.head import of_targets, only_targets
from hbo.scoring.room import lacks_memory
from hbo.scoring.targets import Targets

Squares = dict[str, Tensor]


def squares_of_row(model: nn.Module, targets: Targets, row: int = 0) -> tuple[Squares, Tensor]:
    """Each trainable parameter's squared gradient norm () of one row's mean target loss, and that loss ().

    The gradients of a model sharded by FSDP are summed over all processes, so all must measure the same row.

    Args:
        model: With its wrappers taken off, in eval mode, its gradients None.
        targets: Of a batch with that row.
        row: Which.
    """
    resharded(model)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if any(isinstance(p, DTensor) for p in trained.values()):
        return _in_place(model, targets, row, trained)
    with recomputing(model):
        loss = _loss(model, targets, row)
        try:
            return squares_from(loss, trained), loss.detach()
        except RuntimeError as error:
            # A checkpoint that reenters autograd allows gradients to go to `.grad` only.
            if lacks_memory(error) or is_partitioned(model):
                raise
    return _in_place(model, targets, row, trained)


def _in_place(
    model: nn.Module, targets: Targets, row: int, trained: Mapping[str, nn.Parameter]
) -> tuple[Squares, Tensor]:
    with recomputing(model):
        loss = _loss(model, targets, row)
        if loss.requires_grad:
            with torch.autocast(loss.device.type, enabled=False):
                loss.backward()  # type: ignore[no-untyped-call]
    found: Squares = {}
    for name, parameter in trained.items():
        if parameter.grad is not None:
            found[name], parameter.grad = square(parameter.grad), None
    whole = {name: part.full_tensor() if isinstance(part, DTensor) else part for name, part in found.items()}
    return whole, loss.detach()


def squares_from(value: Tensor, trained: Mapping[str, nn.Parameter]) -> Squares:
    """The squared norm () of the gradient of `value` for each parameter that had a part.

    What autograd would return is replaced by zeros that take no room as soon as it is squared. So neither `.grad` nor
    anything that hangs on it (DDP's buckets, DeepSpeed's, optimizers that step during the backward) hears of it.
    """
    found: Squares = {}
    if not value.requires_grad:
        return found

    def drop(name: str, gradient: Tensor) -> Tensor:
        found[name] = square(gradient)
        return gradient.new_zeros(()).expand(gradient.shape)

    handles = [p.register_hook(partial(drop, name)) for name, p in trained.items()]  # type: ignore[no-untyped-call]
    try:
        with torch.autocast(value.device.type, enabled=False):
            torch.autograd.grad(value, list(trained.values()), allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return found


class _MeanLoss(torch.autograd.Function):
    """The mean loss () of all targets. Autograd would keep a softmax of all logits in fp32; this keeps their slopes."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, label_N: Tensor) -> Tensor:
        """The loss, in nats."""
        ctx.slope_NV, count = logits_NV.clone(), len(label_N)
        weight_N = torch.full((count,), 1 / count, device=logits_NV.device)
        return slopes_in_place(ctx.slope_NV, label_N.to(logits_NV.device), weight_N).mean()

    @staticmethod
    def backward(ctx: Any, of_loss: Tensor) -> Any:
        """The slopes, once; nothing keeps them longer than the head's own backward needs them."""
        slope_NV, ctx.slope_NV = ctx.slope_NV, None
        return slope_NV.mul_(of_loss), None


def _loss(model: nn.Module, targets: Targets, row: int) -> Tensor:
    with only_targets(model, targets):
        logits = model(**targets.inputs, use_cache=False).logits
    logits_NV, label_N = of_targets(model, logits, targets), targets.label_N
    if targets.counts[row] < len(label_N):
        own = slice(sum(targets.counts[:row]), sum(targets.counts[: row + 1]))
        logits_NV, label_N = logits_NV[own], label_N[own]
    loss: Tensor = _MeanLoss.apply(logits_NV, label_N)  # type: ignore[no-untyped-call]
    return loss


def total(squares: Squares, device: torch.device) -> Tensor:
    """The gradient's norm () over all parameters, in fp32."""
    parts = [part.to(device) for part in squares.values()]
    return torch.stack([torch.zeros((), device=device), *parts]).sum().sqrt()
