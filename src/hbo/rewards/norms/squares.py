"""Each row's squared gradient norm: of a whole batch in one pass, or of one row by plain autograd.

In one pass no weight gradient is ever computed ("ghost norms"): no parameter requires one meanwhile, and the graph
starts at the output of the first layer that owns a trainable parameter. The steps, in order:

    forward     hooks note what every such layer is given and gives (`recorder`, `calls`)
    head        losses, their slopes at the last hidden states, the head's own gradient (`head`)
    backward    each layer's slopes arrive, its rule makes of them each row's gradient (`layers`), or the layer is run
                again (`calls`); the gradient is squared at once, or waits for further uses of the same weight
                (`outer_products`)

By autograd each parameter's gradient is squared and dropped as it comes. It is exact whatever the model does: what the
pass is compared with (`settle`), and all there is for a model that the pass can't measure.

Both compute activations anew where training does. transformers' layers do so only in training mode, in which they would
apply dropout too, so `recomputing` has them do it in eval mode; else a measurement would keep the activations of all
layers, many times what the training step needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from hbo.compat import DTensor
from hbo.rewards.norms.facts import Facts
from hbo.rewards.norms.head import HeadPass, slopes_in_place
from hbo.rewards.norms.left_as_found import resharded
from hbo.rewards.norms.outer_products import square
from hbo.rewards.norms.recorder import Recorder
from hbo.scoring.devices import is_partitioned
from hbo.scoring.head import Head, head_of, of_targets, only_targets, target_logits, through_head
from hbo.scoring.room import lacks_memory
from hbo.scoring.targets import Targets


@dataclass(frozen=True)
class Pass:
    """What one pass has shown."""

    recorder: Recorder
    """Holds the squared norms."""
    loss_B: Tensor
    """Each row's mean target loss, nats; NaN without a target."""
    head_is_known: Tensor
    """Whether the logits are what they were taken for ()."""


def batched_pass(model: nn.Module, targets: Targets, facts: Facts, *, learns: bool = False) -> Pass:
    """One forward and one backward of a batch, recorded; `learns` is the recorder's.

    To be called on a model without wrappers, inside `left_as_found`, which gives the parameters their `requires_grad`
    back.

    Raises:
        Uncovered: A parameter is used in a way that is not known of it.
        RewardError: The model doesn't return one logit vector per token.
    """
    head = head_of(model) if facts.sliced_head else None
    recorder = Recorder(model, targets, facts, head.layer if head else None, learns=learns)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    torch.clear_autocast_cache()  # type: ignore[no-untyped-call]  # may hold copies of weights that require gradients
    with recorder, recomputing(model):
        if head is None:
            logits_NV = target_logits(model, targets, use_cache=False)
            slope, known = logits_NV.detach().clone(), torch.ones((), dtype=torch.bool, device=targets.device)
            label_N, weight_N = targets.label_N.to(slope.device), targets.weights().to(slope.device)
            loss_N = slopes_in_place(slope, label_N, weight_N)
            _backward(recorder, logits_NV, slope)
        else:
            loss_N, known = _through(model, head, targets, recorder)
    return Pass(recorder, targets.means(loss_N), known)


def _through(model: nn.Module, head: Head, targets: Targets, recorder: Recorder) -> tuple[Tensor, Tensor]:
    work = HeadPass.of(model, head, targets, recorder.of_head)
    known = through_head(model, head, targets, work, use_cache=False)
    assert work.hidden is not None and work.slope_NH is not None and work.loss_N is not None
    for parameter, use in work.uses():
        recorder.expect(parameter)
        recorder.collect(parameter, use)
    _backward(recorder, work.hidden, work.slope_NH)
    return work.loss_N, known


def _backward(recorder: Recorder, value: Tensor, slope: Tensor) -> None:
    recorder.forward_is_over = True
    if value.requires_grad:
        with torch.autocast(value.device.type, enabled=False):
            value.backward(slope)  # type: ignore[no-untyped-call]


def squares_of_row(model: nn.Module, targets: Targets, row: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """Each trainable parameter's squared gradient norm () of one row's mean target loss, and that loss ().

    To be called likewise. The gradients of a model sharded by FSDP are summed over all processes, so all must measure
    the same row.
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
) -> tuple[dict[str, Tensor], Tensor]:
    with recomputing(model):
        loss = _loss(model, targets, row)
        if loss.requires_grad:
            with torch.autocast(loss.device.type, enabled=False):
                loss.backward()  # type: ignore[no-untyped-call]
    found: dict[str, Tensor] = {}
    for name, parameter in trained.items():
        if parameter.grad is not None:
            found[name], parameter.grad = square(parameter.grad), None
    whole = {name: part.full_tensor() if isinstance(part, DTensor) else part for name, part in found.items()}
    return whole, loss.detach()


def squares_from(value: Tensor, trained: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The squared norm () of the gradient of `value` for each parameter that had a part.

    What autograd would return is replaced by zeros that take no room as soon as it is squared. So neither `.grad` nor
    anything that hangs on it (DDP's buckets, DeepSpeed's, optimizers that step during the backward) hears of it.
    """
    found: dict[str, Tensor] = {}
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


def norm_of(squares: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """The gradient's norm () over all parameters, in fp32."""
    parts = [part.to(device) for part in squares.values()]
    return torch.stack([torch.zeros((), device=device), *parts]).sum().sqrt()


@contextmanager
def recomputing(model: nn.Module) -> Iterator[None]:
    """Inside, the layers that training checkpoints are checkpointed in eval mode too, without reentering autograd."""
    blocks: list[Any] = [
        module
        for module in model.modules()
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing
    ]
    kept = [(block, block._gradient_checkpointing_func, block.training) for block in blocks]
    try:
        for block in blocks:
            block.training = True  # asked by the layer before it checkpoints, and nowhere else
            block._gradient_checkpointing_func = _twice(block)
        yield
    finally:
        for block, function, training in kept:
            block._gradient_checkpointing_func, block.training = function, training


def _twice(block: Any) -> Callable[..., Any]:
    def in_eval_mode(forward: Callable[..., Any], *args: Any) -> Any:
        block.training = False
        try:
            return forward(*args)
        finally:
            block.training = True

    return partial(checkpoint, in_eval_mode, use_reentrant=False, preserve_rng_state=False)
