"""Rewards that follow from a row's loss now and its loss under the untuned model: HBO's local reward and the like."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hbo.data.tokens import predicts_target


def perplexity_ratio(model: nn.Module, batch: Any, *, loss: Tensor, reference: Tensor, **_: Any) -> Tensor:
    """PPL(y|x; θ) / PPL(y|x; θ₀) of each row (B,) (Eq. 8): high where training has helped little."""
    return torch.exp(loss - reference)


def loss_ratio(model: nn.Module, batch: Any, *, loss: Tensor, reference: Tensor, **_: Any) -> Tensor:
    """Mean token loss now over that of the untuned model, of each row (B,)."""
    return loss / reference


def ifd_ratio(
    model: nn.Module,
    batch: Any,
    *,
    loss: Tensor,
    reference: Tensor,
    loss_alone: Tensor,
    reference_alone: Tensor,
    **_: Any,
) -> Tensor:
    """IFD(y|x; θ) / IFD(y|x; θ₀) of each row (B,), with IFD = PPL(y|x) / PPL(y): high if x helps less than before."""
    return torch.exp((loss - loss_alone) - (reference - reference_alone))


def perplexity(model: nn.Module, batch: Any, *, loss: Tensor, **_: Any) -> Tensor:
    """PPL(y|x; θ) of each row (B,), without a reference."""
    return torch.exp(loss)


def loss(model: nn.Module, batch: Any, *, loss: Tensor, **_: Any) -> Tensor:
    """Mean token loss of each row (B,), nats."""
    return loss


def gradient_norm(model: nn.Module, batch: Any, *, gradient_norm: Tensor, **_: Any) -> Tensor:
    """L2 norm of each row's loss gradient (B,) (Eq. 7, per example as in the authors' code)."""
    return gradient_norm


def token_gradient_norm(model: nn.Module, batch: Any, *, gradient_norm: Tensor, **_: Any) -> Tensor:
    """`gradient_norm` × √(target tokens) of each row (B,), which the number of targets doesn't lower.

    The mean of n gradients that point in unrelated directions has 1/√n of their norm: two rows with as much left to
    learn in each token differ in `gradient_norm` if one response is longer, and not in this.
    """
    targets_B: Tensor = predicts_target(batch["labels"]).sum(1)
    return gradient_norm * targets_B.to(gradient_norm.device, gradient_norm.dtype).sqrt()
