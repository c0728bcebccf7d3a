"""Gradient norms by plain autograd, one row at a time, each parameter's gradient squared and dropped as it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.func import functional_call

from hbo.rewards.norms.checkpointing import recomputing
from hbo.rewards.norms.outer_products import square
from hbo.scoring.head import of_targets, only_targets, token_losses
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
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sharded = any(isinstance(p, DTensor) for p in trained.values())
    partitioned = any("ds_id" in vars(p) for p in trained.values())
    if partitioned:
        return _of_partitioned(model, targets, row, trained)
    if sharded:
        return _in_place(model, targets, row, trained)
    found: Squares = {}
    dropped = {p: _Dropped.apply(p, name, found) for name, p in trained.items()}  # type: ignore[no-untyped-call]
    # By each place that a weight has; a module that stands in several places is named once.
    aliases = {
        f"{place}.{name}" if place else name: dropped[p]
        for place, module in model.named_modules()
        for name, p in module.named_parameters(recurse=False)
        if p in dropped
    }
    with recomputing(model):
        loss = _loss(_Called(model, aliases), model, targets, row)
        _backward(loss)
    if all(p.grad is None for p in trained.values()):
        return found, loss.detach()
    # Some code holds parameters of its own (an RNN's list, a closure), or runs a block anew when the swap is over (a
    # checkpoint that reenters autograd): their gradients went past us.
    for p in trained.values():
        p.grad = None
    return _in_place(model, targets, row, trained)


class _Dropped(torch.autograd.Function):
    """A parameter as it is; its gradient is squared into `found`, and goes nowhere.

    So neither `.grad` nor anything that hangs on it (DDP's buckets, optimizers that step during the backward) hears of
    this backward.
    """

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, name: str, found: Squares) -> Tensor:
        """The parameter."""
        ctx.name, ctx.found = name, found
        return parameter.data

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Nothing."""
        ctx.found[ctx.name] = square(gradient)
        return None, None, None


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
    return {
        name: part.full_tensor() if isinstance(part, DTensor) else part for name, part in found.items()
    }, loss.detach()


def _of_partitioned(
    model: nn.Module, targets: Targets, row: int, trained: Mapping[str, nn.Parameter]
) -> tuple[Squares, Tensor]:
    # DeepSpeed's own hooks would take every gradient that reaches `.grad` for one of training.
    with recomputing(model):
        loss = _loss(model, model, targets, row)
        gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    both = zip(trained, gradients, strict=True)
    return {name: square(gradient) for name, gradient in both if gradient is not None}, loss.detach()


def _loss(call: Any, model: nn.Module, targets: Targets, row: int) -> Tensor:
    with only_targets(model, targets):
        logits = call(**targets.inputs, use_cache=False).logits
    start = sum(targets.counts[:row])
    own = slice(start, start + targets.counts[row])
    return token_losses(of_targets(model, logits, targets)[own], targets.label_N[own]).mean()


def _backward(loss: Tensor) -> None:
    if loss.requires_grad:
        with torch.autocast(loss.device.type, enabled=False):
            loss.backward()  # type: ignore[no-untyped-call]


def total(squares: Squares, device: torch.device) -> Tensor:
    """The gradient's norm () over all parameters, in fp32."""
    parts = [part.to(device) for part in squares.values()]
    return torch.stack([torch.zeros((), device=device), *parts]).sum().sqrt()
