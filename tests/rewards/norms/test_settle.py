"""What the batched pass doesn't cover is measured row by row, with one warning: never a wrong number."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from tiny_models import GROUPED, assert_exact, padded, tiny
from torch import nn

from hbo.rewards.gradients import (
    gradient_norms_and_losses,
    looped_gradient_norms,
    per_example_gradient_norms,
    settle,
)
from hbo.rewards.norms import Outer, layers, register


class Scaled(nn.Module):
    """A custom layer with a parameter of its own and a layer inside."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.factor = inner, nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.inner(x) * self.factor


def with_custom_layer(model):
    model.model.layers[0].mlp = Scaled(model.model.layers[0].mlp)


def with_shared_layer(model):
    model.model.layers[1].mlp = model.model.layers[0].mlp


def with_stray_use(model):
    up, mlp = model.model.layers[0].mlp.up_proj, model.model.layers[1].mlp
    mlp.register_forward_hook(lambda module, args, output: output + args[0] @ up.weight.T @ up.weight)


class Shift(nn.Module):
    """A layer of which autograd keeps nothing, so that its input may be overwritten."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(32))

    def forward(self, x):
        return x + self.shift


def with_shift(model, factor=None):
    model.model.norm = Shift()
    if factor is not None:
        model.model.norm.register_forward_hook(lambda module, args, output: args[0].mul_(factor) + output)


def with_overwritten_input(model):
    with_shift(model, factor=2)


def with_mixing_norm(model):
    layer = model.model.norm
    layer.forward = lambda x: layer.weight * x / x.detach().std()


class Squared(nn.Module):
    """Multiplies by the square of its weight: at a weight of ones the same as multiplying by the weight itself."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return x * self.weight**2


def with_squared_weight(model):
    model.model.norm = Squared(32)


def with_layer_norm(model):
    model.model.norm = nn.LayerNorm(32)


@pytest.mark.parametrize(
    "change",
    [with_shared_layer, with_shift, with_squared_weight, with_layer_norm, with_custom_layer],
)
def test_layers_used_twice_and_custom_layers_are_exact(change):
    model = tiny()
    change(model)
    assert_exact(model, padded())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (with_stray_use, "model.layers.0.mlp.up_proj.weight"),
        (with_overwritten_input, "model.norm.shift"),
        (with_mixing_norm, "LlamaForCausalLM gives a row alone something else"),
    ],
)
def test_what_no_rule_covers_is_measured_in_a_loop_with_one_warning(change, named):
    model, batch = tiny(), padded()
    change(model)
    with pytest.warns(UserWarning, match="one row at a time") as caught:
        facts = settle(model, batch)
        found = [gradient_norms_and_losses(model, batch, facts=facts)[0] for _ in range(2)]
    assert len(caught) == 1 and not facts.batched and named in str(caught[0].message)
    expected = looped_gradient_norms(model, batch)
    assert all(torch.equal(norms, expected) for norms in found)


def test_a_weight_used_twice_only_later_is_never_measured_wrongly():
    model, batch = tiny(), padded((8, 3, 7, 5))
    facts = settle(model, batch)  # each weight is used once
    mlp = model.model.layers[0].mlp
    model.model.layers[0].register_forward_hook(lambda module, args, output: output + mlp(output))
    torch.testing.assert_close(
        per_example_gradient_norms(model, batch, facts=facts), looped_gradient_norms(model, batch), rtol=1e-5, atol=0
    )


def test_a_model_that_autograd_refuses_gets_no_number():
    model = tiny()
    model.model.layers[0].mlp.register_forward_hook(lambda module, args, output: args[0].mul_(2) * output)
    with pytest.raises(RuntimeError, match="inplace"):
        per_example_gradient_norms(model, padded())


class FusedMLP(torch.autograd.Function):
    """What a fused kernel is to autograd: one operation that is given the weights of several layers."""

    @staticmethod
    def forward(ctx, x, gate, up, down):
        ctx.save_for_backward(x, gate, up, down)
        return (nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T

    @staticmethod
    def backward(ctx, slope):
        given = [each.detach().requires_grad_() for each in ctx.saved_tensors]
        with torch.enable_grad():
            x, gate, up, down = given
            out = (nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T
        return torch.autograd.grad(out, given, slope)


def with_kernel(model):
    for layer in model.model.layers:
        mlp = layer.mlp
        mlp.forward = lambda x, m=mlp: FusedMLP.apply(x, m.gate_proj.weight, m.up_proj.weight, m.down_proj.weight)


def test_a_kernel_that_takes_weights_from_outside_their_layers_is_noticed_and_measured_right():
    model, batch = tiny(), padded()
    with_kernel(model)
    with pytest.warns(
        UserWarning, match=r"mlp\.gate_proj\.weight'.* is used outside of its own layer.*one row at a time"
    ) as caught:
        norms = per_example_gradient_norms(model, batch)
    assert len(caught) == 1
    torch.testing.assert_close(norms, one_at_a_time_here(model, batch), rtol=1e-4, atol=0)


def one_at_a_time_here(model, batch):
    """As `one_at_a_time`, of a model that can't be copied: its layers have been changed by hand."""
    return looped_gradient_norms(model, batch)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_such_a_kernel_is_noticed_in_the_precision_of_training(precision):
    model, batch = tiny(), padded()
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x: mlp.down_proj(nn.functional.silu(x @ mlp.gate_proj.weight.T) * mlp.up_proj(x))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        with pytest.warns(UserWarning, match=r"layers\.1\.mlp\.gate_proj\.weight"):
            norms = per_example_gradient_norms(model, batch)
        expected = looped_gradient_norms(model, batch)
    torch.testing.assert_close(norms, expected, rtol=1e-4 if precision == "fp32" else 3e-2, atol=0)


def test_grouped_experts_are_exact():
    torch.manual_seed(0)
    model = hf.MixtralForCausalLM(hf.MixtralConfig(**GROUPED, num_local_experts=4))
    assert_exact(model, padded())
