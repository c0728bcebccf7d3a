"""Weights are cast once per measurement, and what is measured is the same."""

import pytest
import torch
from tiny_models import padded, tiny
from torch import nn

from hbo.rewards.casts import KeptCasts, kept_casts
from hbo.rewards.gradients import gradient_norms_and_losses, looped_gradient_norms


def casts_of(model: nn.Module, seen: torch.profiler.profile) -> int:
    """How often a whole MLP weight went from fp32 to bf16."""
    shape = list(model.model.layers[0].mlp.up_proj.weight.shape)
    return sum(e.name == "aten::_to_copy" and e.input_shapes[:1] == [shape] for e in seen.events())


def test_a_weight_is_cast_once_for_all_batches_and_norms_stay_the_same() -> None:
    model, batch = tiny(), padded()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = gradient_norms_and_losses(model, batch)
        with kept_casts(model), torch.profiler.profile(record_shapes=True) as seen:
            kept = [gradient_norms_and_losses(model, batch) for _ in range(3)]
    uses = 3 * len(model.model.layers)  # without keeping them: up and gate, in every layer, three times
    assert 0 < casts_of(model, seen) <= uses
    for norms, losses in kept:
        assert torch.equal(norms, plain[0]) and torch.equal(losses, plain[1])


def test_weights_that_learn_are_left_to_autocast() -> None:
    layer, x = nn.Linear(8, 8), torch.randn(2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16), KeptCasts(torch.bfloat16):
        layer(x).sum().backward()
    assert layer.weight.grad is not None
    model, batch = tiny(), padded()
    expected = looped_gradient_norms(model, batch)
    with KeptCasts(torch.bfloat16):
        assert torch.equal(looped_gradient_norms(model, batch), expected)


@pytest.mark.parametrize("enabled", [True, False])
def test_without_autocast_nothing_is_kept(enabled: bool) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
        assert isinstance(kept_casts(tiny()), KeptCasts) is enabled
