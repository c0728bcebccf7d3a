"""Gradient norms by plain autograd, one row at a time, each parameter's gradient squared and dropped as it comes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.func import functional_call

from hbo.rewards.norms.checkpointing import recomputing
from hbo.rewards.norms.head import slopes_in_place
from hbo.rewards.norms.left_as_found import resharded
from hbo.rewards.norms.outer_products import square
from hbo.scoring.head import of_targets, only_targets
from hbo.scoring.placement import is_partitioned
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
    sharded = any(isinstance(p, DTensor) for p in trained.values())
    if is_partitioned(model):
        return _of_partitioned(model, targets, row, trained)
    if sharded:
        return _in_place(model, targets, row, trained)
    found: Squares = {}
    leaves = {p: _leaf(p, name, found) for name, p in trained.items()}
    # By each place that a weight has; a module that stands in several places is named once.
    aliases = {
        f"{place}.{name}" if place else name: leaves[p]
        for place, module in model.named_modules()
        for name, p in module.named_parameters(recurse=False)
        if p in leaves
    }
    with recomputing(model):
        loss = _loss(_Called(model, aliases), model, targets, row)
        _backward(loss)
    loss = loss.detach()
    if all(p.grad is None for p in trained.values()):
        return found, loss
    # Some code holds parameters of its own (an RNN's list, a closure), or runs a block anew when the swap is over (a
    # checkpoint that reenters autograd): their gradients went past us.
    for p in trained.values():
        p.grad = None
    return _in_place(model, targets, row, trained)


def _leaf(parameter: Tensor, name: str, found: Squares) -> Tensor:
    """A parameter as a leaf of its own, whose gradient is squared into `found` as soon as it is whole, and let go.

    So neither `.grad` nor anything that hangs on it (DDP's buckets, optimizers that step during the backward) hears of
    this backward. A leaf, because autograd serves leaves first, and other nodes at the end, with all gradients in hand.
    """
    leaf = parameter.detach().requires_grad_()

    def drop(leaf: Tensor) -> None:
        assert leaf.grad is not None
        found[name], leaf.grad = square(leaf.grad), None

    leaf.register_post_accumulate_grad_hook(drop)
    return leaf


class _Called:
    def __init__(self, model: nn.Module, parameters: Mapping[str, Tensor]) -> None:
        self._model, self._parameters = model, dict(parameters)

    def __call__(self, **inputs: Any) -> Any:
        return functional_call(self._model, self._parameters, (), inputs, tie_weights=False)


def _in_place(
    model: nn.Module, targets: Targets, row: int, trained: Mapping[str, nn.Parameter]
) -> tuple[Squares, Tensor]:
    with recomputing(model):
        loss = _loss(model, model, targets, row)
        _backward(loss)
    found: Squares = {}
    for name, parameter in trained.items():
        if parameter.grad is not None:
            found[name], parameter.grad = square(parameter.grad), None
    whole = {name: part.full_tensor() if isinstance(part, DTensor) else part for name, part in found.items()}
    return whole, loss.detach()


def _of_partitioned(
    model: nn.Module, targets: Targets, row: int, trained: Mapping[str, nn.Parameter]
) -> tuple[Squares, Tensor]:
    # DeepSpeed's own hooks would take every gradient that reaches `.grad` for one of training. So they are asked for,
    # and each is replaced, as it comes, by zeros that take no memory.
    with recomputing(model):
        loss = _loss(model, model, targets, row)
        with torch.autocast(loss.device.type, enabled=False):
            return squares_from(loss, trained), loss.detach()


def squares_from(value: Tensor, trained: Mapping[str, nn.Parameter]) -> Squares:
    """The squared norm () of the gradient of `value` for each parameter that had a part; `.grad` stays as it is.

    What autograd would return is replaced by zeros that take no room as soon as it is squared.
    """
    found: Squares = {}

    def drop(name: str, gradient: Tensor) -> Tensor:
        found[name] = square(gradient)
        return gradient.new_zeros(()).expand(gradient.shape)

    handles = [p.register_hook(partial(drop, name)) for name, p in trained.items()]  # type: ignore[no-untyped-call]
    try:
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


def _loss(call: Any, model: nn.Module, targets: Targets, row: int) -> Tensor:
    with only_targets(model, targets):
        logits = call(**targets.inputs, use_cache=False).logits
    logits_NV, label_N = of_targets(model, logits, targets), targets.label_N
    if targets.counts[row] < len(label_N):
        own = slice(sum(targets.counts[:row]), sum(targets.counts[: row + 1]))
        logits_NV, label_N = logits_NV[own], label_N[own]
    loss: Tensor = _MeanLoss.apply(logits_NV, label_N)  # type: ignore[no-untyped-call]
    return loss


def _backward(loss: Tensor) -> None:
    if loss.requires_grad:
        with torch.autocast(loss.device.type, enabled=False):
            loss.backward()  # type: ignore[no-untyped-call]


def total(squares: Squares, device: torch.device) -> Tensor:
    """The gradient's norm () over all parameters, in fp32."""
    parts = [part.to(device) for part in squares.values()]
    return torch.stack([torch.zeros((), device=device), *parts]).sum().sqrt()
