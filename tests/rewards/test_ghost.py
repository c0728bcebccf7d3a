"""What the batched pass doesn't cover is measured row by row, with one warning: never a wrong number."""

from __future__ import annotations

import weakref

import pytest
import torch
import transformers as hf
from tiny_models import GROUPED, assert_exact, one_at_a_time, padded, tiny
from torch import nn

from hbo.rewards.gradients import gradient_norms_and_losses, looped_gradient_norms, per_example_gradient_norms


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


@pytest.mark.parametrize("change", [with_shared_layer, with_shift, with_squared_weight, with_layer_norm])
def test_layers_used_twice_and_custom_layers_of_vectors_are_exact(change):
    model = tiny()
    change(model)
    assert_exact(model, padded())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (with_custom_layer, "model.layers.0.mlp.factor"),
        (with_stray_use, "model.layers.0.mlp.up_proj.weight"),
        (with_overwritten_input, "model.norm.shift"),
        (with_mixing_norm, "model.norm.weight"),
    ],
)
def test_what_no_rule_covers_is_measured_in_a_loop_with_one_warning(change, named):
    model, batch = tiny(), padded()
    change(model)
    with pytest.warns(UserWarning, match="one row at a time") as caught:
        found = [gradient_norms_and_losses(model, batch)[0] for _ in range(2)]
    assert len(caught) == 1 and named in str(caught[0].message)
    expected = looped_gradient_norms(model, batch)
    assert all(torch.equal(norms, expected) for norms in found)


def test_a_weight_used_twice_only_later_is_never_measured_wrongly():
    model, batch = tiny(), padded((8, 3, 7, 5))
    per_example_gradient_norms(model, batch)  # each weight is used once
    mlp = model.model.layers[0].mlp
    model.model.layers[0].register_forward_hook(lambda module, args, output: output + mlp(output))
    with pytest.warns(UserWarning, match="used several times, unlike before"):
        found = per_example_gradient_norms(model, batch)
    assert torch.equal(found, looped_gradient_norms(model, batch))


def test_inputs_of_linear_layers_are_let_go_before_the_backward():
    model, batch = tiny(), padded((8, 3, 7, 5))
    per_example_gradient_norms(model, batch)
    inputs, are_kept = [], []
    layers = [layer.mlp.down_proj for layer in model.model.layers]
    for layer in layers:
        layer.register_forward_hook(lambda module, args, output: inputs.append(weakref.ref(args[0].untyped_storage())))
    model.lm_head.register_forward_hook(lambda *_: are_kept.extend(storage() is not None for storage in inputs))
    per_example_gradient_norms(model, batch)
    assert are_kept[0] is False


def test_a_model_that_autograd_refuses_gets_no_number():
    model = tiny()
    model.model.layers[0].mlp.register_forward_hook(lambda module, args, output: args[0].mul_(2) * output)
    with pytest.warns(UserWarning, match="overwritten"), pytest.raises(RuntimeError, match="inplace"):
        per_example_gradient_norms(model, padded())


def test_a_frozen_custom_parameter_needs_no_fallback():
    model = tiny()
    with_custom_layer(model)
    with pytest.warns(UserWarning, match="factor"):
        per_example_gradient_norms(model, padded())
    model.model.layers[0].mlp.factor.requires_grad_(False)
    assert_exact(model, padded())


def test_fused_experts_fall_back():
    torch.manual_seed(0)
    model = hf.MixtralForCausalLM(hf.MixtralConfig(**GROUPED, num_local_experts=4))
    with pytest.warns(UserWarning, match="experts|gate"):
        norms = per_example_gradient_norms(model, padded())
    torch.testing.assert_close(norms, one_at_a_time(model, padded())[0], rtol=1e-4, atol=0)
