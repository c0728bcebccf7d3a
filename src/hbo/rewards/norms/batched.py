"""Each row's squared gradient norm from one forward and one backward of the whole batch ("ghost norms").

No weight gradient is ever computed: during the pass no parameter requires one, and the graph starts at the output of
the first layer that owns a trainable parameter. The steps, in order:

    forward     hooks note what every such layer is given and gives (`recorder`, `calls`)
    head        losses, their slopes at the last hidden states, the head's own gradient (`head`)
    backward    each layer's slopes arrive, its rule makes of them each row's gradient (`layers`, `rerun`), which is
                squared at once (`outer_products`), or waits for further uses of the same weight (`uses`)

Activation checkpointing as training has it, in eval mode as well.

transformers' layers compute activations twice only in training mode, in which they would apply dropout too. Without
this a measurement would keep the activations of all layers, many times what the training step needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from hbo.rewards.norms.facts import Facts
from hbo.rewards.norms.head import HeadPass, slopes_in_place, tied_to
from hbo.rewards.norms.recorder import Recorder
from hbo.scoring.head import Head, head_of, target_logits, through_head
from hbo.scoring.targets import Targets


@dataclass(frozen=True)
class Pass:
    """What one pass has shown.

    Attributes:
        recorder: Holds the squared norms.
        loss_B: Each row's mean target loss, nats; NaN without a target.
        head_is_known: Whether the logits are what they were taken for ().
    """

    recorder: Recorder
    loss_B: Tensor
    head_is_known: Tensor


def batched_pass(model: nn.Module, targets: Targets, facts: Facts, *, learns: bool = False) -> Pass:
    """One forward and one backward of a batch, recorded.

    To be called inside `left_as_found`, which gives the parameters their `requires_grad` back.

    Args:
        model: With its wrappers taken off, in eval mode.
        targets: Of the batch.
        facts: What is known of the model.
        learns: As in `Recorder`.

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
    own = recorder.of_head.parameters if recorder.of_head else {}
    work = HeadPass(head, targets, frozenset(own), tied="weight" in own and tied_to(model, head))
    known = through_head(model, head, targets, work, use_cache=False)
    assert work.hidden is not None and work.slope_NH is not None and work.loss_N is not None
    for parameter in own.values():
        recorder.expect(parameter)
    if "weight" in own and work.weight_use is not None:
        recorder.collect(own["weight"], work.weight_use)
    if "bias" in own and work.bias_BV is not None:
        recorder.collect(own["bias"], work.bias_BV)
    _backward(recorder, work.hidden, work.slope_NH)
    return work.loss_N, known


def _backward(recorder: Recorder, value: Tensor, slope: Tensor) -> None:
    recorder.forward_is_over = True
    if value.requires_grad:
        with torch.autocast(value.device.type, enabled=False):
            value.backward(slope)  # type: ignore[no-untyped-call]


def is_recomputed(block: nn.Module) -> bool:
    """Whether training computes this block twice, by transformers' own means."""
    return isinstance(block, GradientCheckpointingLayer) and bool(block.gradient_checkpointing)


@contextmanager
def recomputing(model: nn.Module) -> Iterator[None]:
    """Inside, the layers that training checkpoints are checkpointed in eval mode too, without reentering autograd."""
    blocks: list[Any] = [module for module in model.modules() if is_recomputed(module)]
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
    def run(forward: Callable[..., Any], *args: Any) -> Any:
        def in_eval_mode(*args: Any) -> Any:
            block.training = False
            try:
                return forward(*args)
            finally:
                block.training = True

        return checkpoint(in_eval_mode, *args, use_reentrant=False, preserve_rng_state=False)

    return run
