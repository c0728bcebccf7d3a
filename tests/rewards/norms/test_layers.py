"""The rules of layers, and rules of one's own."""

from __future__ import annotations

import functools

import pytest
import torch
from tiny_models import assert_exact, padded, tiny
from torch import nn
from transformers.pytorch_utils import Conv1D

from hbo.compat import FSDPModule
from hbo.rewards.gradients import looped_gradient_norms, per_example_gradient_norms
from hbo.rewards.norms import Outer, layers, register
from hbo.rewards.norms.layers import Unruly, own_rule, rule_for
from hbo.rewards.norms.outer_products import norms_of_one

ROWS, TOKENS, SIZE = 3, 5, 8


class Scaling(nn.Embedding):
    """As Gemma's: what is looked up is multiplied by a number."""

    def forward(self, ids):
        return super().forward(ids) * 2.5


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(SIZE))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(SIZE, 6), nn.Linear(SIZE, 6, bias=False), Conv1D(6, SIZE), nn.LayerNorm(SIZE),
        nn.LayerNorm(SIZE, bias=False), Norm(), nn.Embedding(9, SIZE), nn.Embedding(9, SIZE, padding_idx=3), Scaling(9, 4),
    ],
    ids=["linear", "no bias", "conv1d", "layer norm", "no bias in norm", "any norm", "embedding", "padding", "scaled"],
)  # fmt: skip
@pytest.mark.parametrize("groups", [(), (2,)], ids=["tokens", "tokens of groups"])
def test_a_rule_gives_each_rows_gradient(layer, groups):
    torch.manual_seed(0)
    shape = (ROWS, TOKENS, *groups)
    x = torch.randint(0, 9, shape) if isinstance(layer, nn.Embedding) else torch.randn(*shape, SIZE)
    names = [name for name, _ in layer.named_parameters()]
    out = layer(x)
    slope = torch.randn_like(out)
    with torch.no_grad():
        found = rule_for(layer, names)(layer, x, slope)
    for row in range(ROWS):
        gradients = torch.autograd.grad(layer(x[row : row + 1]), list(layer.parameters()), slope[row : row + 1])
        for name, gradient in zip(names, gradients, strict=True):
            torch.testing.assert_close(norms_of_one(found[name])[row], gradient.square().sum(), rtol=1e-4, atol=1e-6)


def test_a_subclass_that_changes_what_a_layer_does_has_no_rule_of_its_parent():
    class Doubling(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    class Named(nn.Linear):
        pass

    assert rule_for(Doubling(2, 2), ["weight"]) is None
    assert rule_for(Named(2, 2), ["weight"]) is layers.linear
    patched = nn.Linear(2, 2)
    patched.forward = lambda x: x
    assert rule_for(patched, ["weight"]) is None


def test_an_embedding_that_is_given_no_rows_of_ids_is_refused():
    with pytest.raises(Unruly, match="token ids"):
        layers.embedding(nn.Embedding(9, 4), torch.arange(5), torch.ones(5, 4))


class Doubled(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x @ self.inner.weight.T * 2


def test_a_rule_of_ones_own_takes_over_what_is_inside(monkeypatch):
    monkeypatch.setattr(layers, "_OWN", {})
    model, batch, asked = tiny(), padded(), []
    model.model.layers[0].mlp.down_proj = Doubled(model.model.layers[0].mlp.down_proj)

    def rule(layer, x, slope):
        asked.append((x.shape, slope.shape))
        return {"inner.weight": Outer(2 * slope, x)}

    register(Doubled, rule)
    assert_exact(model, batch)
    assert asked[-1] == ((4, 20, 48), (4, 20, 32))


def test_a_rule_that_is_wrong_is_found_out(monkeypatch):
    monkeypatch.setattr(layers, "_OWN", {})
    model, batch = tiny(), padded()
    model.model.layers[0].mlp.down_proj = Doubled(model.model.layers[0].mlp.down_proj)
    register(Doubled, lambda layer, x, slope: {"inner.weight": Outer(slope, x)})
    with pytest.warns(UserWarning, match=r"down_proj\.inner\.weight"):
        norms = per_example_gradient_norms(model, batch)
    torch.testing.assert_close(norms, looped_gradient_norms(model, batch), rtol=1e-4, atol=0)


def test_a_rule_of_ones_own_is_for_exactly_its_class_or_that_which_fsdp_makes_of_it(monkeypatch):
    monkeypatch.setattr(layers, "_OWN", {})

    class Sub(Doubled):
        pass

    class FSDPDoubled(FSDPModule, Doubled):
        pass

    def rule(layer, x, slope):
        return {}

    register(Doubled, rule)
    made = Doubled(nn.Linear(2, 2))
    assert own_rule(made) is rule and own_rule(Sub(nn.Linear(2, 2))) is None
    made.__class__ = FSDPDoubled  # as `fully_shard` does
    assert own_rule(made) is rule


def test_a_rule_of_ones_own_may_be_any_callable(monkeypatch):
    monkeypatch.setattr(layers, "_OWN", {})
    model = tiny()
    model.model.layers[0].mlp.down_proj = Doubled(model.model.layers[0].mlp.down_proj)

    def rule(times, layer, x, slope):
        return {"inner.weight": Outer(times * slope, x)}

    register(Doubled, functools.partial(rule, 2))
    assert_exact(model, padded())


def test_a_rule_that_leaves_out_a_parameter_is_found_out(monkeypatch):
    monkeypatch.setattr(layers, "_OWN", {})
    model, batch = tiny(), padded((9, 4, 6))
    model.model.layers[0].mlp.down_proj = Doubled(model.model.layers[0].mlp.down_proj)
    register(Doubled, lambda layer, x, slope: {})
    with pytest.warns(UserWarning, match=r"gets no gradient from the rule of Doubled"):
        norms = per_example_gradient_norms(model, batch)
    torch.testing.assert_close(norms, looped_gradient_norms(model, batch), rtol=1e-4, atol=0)
