"""The head of a measurement: its losses, slopes and gradient, without the logits of all targets."""

from __future__ import annotations

import pytest
import torch
from tiny_models import one_at_a_time, padded, tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hbo.rewards.gradients import gradient_norms_and_losses, looped_gradient_norms, settle
from hbo.rewards.norms.head import slopes_in_place
from hbo.scoring import head
from hbo.scoring.losses import Scorer

WORDS = 97


class Largest(TorchDispatchMode):
    """Notes how many rows the largest tensor has whose last size is the vocabulary, views of the weight left out."""

    def __init__(self, weight):
        super().__init__()
        self.weight, self.logits = weight.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            is_logits = isinstance(tensor, torch.Tensor) and tensor.shape[-1:] == (WORDS,)
            if is_logits and tensor.untyped_storage().data_ptr() != self.weight:
                self.logits = max(self.logits, tensor.numel() // WORDS)
        return out


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gemma2"])
@pytest.mark.parametrize("trained", [True, False], ids=["head trained", "head frozen"])
def test_the_logits_of_all_targets_are_never_in_memory_at_once(monkeypatch, family, trained):
    model, batch = tiny(family), padded((20, 19, 18, 18, 17))
    model.lm_head.weight.requires_grad_(trained)
    facts = settle(model, padded((8, 7, 6)))
    assert facts.sliced_head
    monkeypatch.setattr(head, "_CPU_SLICE", 15 * WORDS)
    with Largest(model.lm_head.weight) as largest:
        norms, losses = gradient_norms_and_losses(model, batch, facts=facts)
    # With the head each row's targets pass together, and one row has up to 14.
    assert largest.logits <= 15
    torch.testing.assert_close(norms, looped_gradient_norms(model, batch), rtol=1e-4, atol=0)
    with Largest(model.lm_head.weight) as largest:
        scored = Scorer(model).losses(batch)
    assert largest.logits <= 15
    torch.testing.assert_close(scored, losses, rtol=1e-5, atol=0)
    torch.testing.assert_close(losses, one_at_a_time(model.requires_grad_(True), batch)[1], rtol=1e-5, atol=0)


@pytest.mark.parametrize("slice_", [1, 2**20])
def test_logits_become_the_slopes_of_the_weighted_losses(monkeypatch, slice_):
    monkeypatch.setattr(head, "_CPU_SLICE", slice_)
    torch.manual_seed(0)
    logits, label, weight = torch.randn(6, 11, requires_grad=True), torch.randint(0, 11, (6,)), torch.rand(6)
    losses = torch.nn.functional.cross_entropy(logits, label, reduction="none")
    (expected,) = torch.autograd.grad((losses * weight).sum(), logits)
    slope = logits.detach().clone()
    torch.testing.assert_close(slopes_in_place(slope, label, weight), losses.detach())
    torch.testing.assert_close(slope, expected)
