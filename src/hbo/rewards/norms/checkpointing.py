"""Activation checkpointing as training has it, in eval mode as well.

transformers' layers compute activations twice only in training mode, in which they would apply dropout too. Without
this a measurement would keep the activations of all layers, many times what the training step needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


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
