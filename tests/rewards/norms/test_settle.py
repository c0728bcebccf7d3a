"""What the batched pass doesn't cover is measured row by row, with one warning: never a wrong number."""

from __future__ import annotations

import json

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
from hbo.rewards.norms import Facts


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


@pytest.mark.parametrize("layers", [2, 24])
def test_such_a_kernel_is_noticed_in_bf16_however_many_layers_share_the_norm(layers):
    torch.manual_seed(0)
    sizes = {**GROUPED, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": layers}
    model, batch = hf.LlamaForCausalLM(hf.LlamaConfig(**sizes)).requires_grad_(False), padded((8, 3, 7))
    for layer in model.model.layers:
        layer.mlp.forward = lambda x, m=layer.mlp: m.down_proj(
            nn.functional.silu(x @ m.gate_proj.weight.T) * m.up_proj(x)
        )
        for weight in layer.mlp.parameters():
            weight.requires_grad_(True).data.mul_(4)
    more = pytest.warns(UserWarning, match=rf"gate_proj\.weight' \(and {layers - 1} more\)")
    with torch.autocast("cpu", torch.bfloat16), more:
        facts = settle(model, batch)
    assert facts.rerun == {f"model.layers.{i}.mlp.gate_proj.weight": f"model.layers.{i}.mlp" for i in range(layers)}


def test_rows_that_meet_are_noticed_though_only_one_row_is_there_to_try():
    model = tiny()
    with_mixing_norm(model)
    with pytest.warns(UserWarning, match="one row at a time"):
        assert not settle(model, padded((9,))).batched


def test_rows_without_a_target_that_anything_predicts_are_not_tried():
    batch = padded((1, 6, 5, 4), left=True)
    batch["labels"] = torch.where(batch["attention_mask"].bool(), batch["input_ids"], -100)
    assert settle(tiny(), batch).batched  # the row of one token has a label, and no target


def test_settling_leaves_autocast_as_it_was():
    model, batch = tiny(), padded((9, 4))
    with torch.autocast("cpu", torch.bfloat16):
        settle(model, batch)
        model(**batch).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def with_nothing(model):
    pass


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_nothing, "for a whole batch in one pass"),
        (with_kernel, "2 blocks are run again for each row, such as model.layers.0.mlp"),
        (with_mixing_norm, "one row at a time, which is slower: LlamaForCausalLM gives a row alone"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*one row at a time")
def test_the_verdict_in_a_sentence(change, said):
    model = tiny()
    change(model)
    facts = settle(model, padded())
    assert said in facts.sentence() and facts.sentence().startswith("gradient norms are measured")
    assert Facts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


class Fragile(nn.Module):
    """Fails on a row alone once it is told to: as code that was never run so."""

    fails = False

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(32, 32) * 0.1)

    def forward(self, x):
        if self.fails and len(x) == 1:
            raise RuntimeError("a shape it can't work with")
        return x @ self.weight


def test_a_layer_that_can_not_be_run_again_later_ends_in_the_loop_not_in_an_error():
    model, batch = tiny(), padded((9, 4, 6))
    model.model.layers[0].mlp = Fragile()
    facts = settle(model, batch)
    expected = looped_gradient_norms(model, batch)
    model.model.layers[0].mlp.fails = True
    said = pytest.warns(UserWarning, match=r"layers\.0\.mlp\.weight.*can't be run for a row alone")
    with said, pytest.raises(RuntimeError, match="a shape"):  # a model that refuses single rows has no loop either
        per_example_gradient_norms(model, batch, facts=facts)
    assert not facts.batched and all(module.training for module in model.modules())
    model.model.layers[0].mlp.fails = False
    torch.testing.assert_close(per_example_gradient_norms(model, batch, facts=facts), expected, rtol=1e-5, atol=0)


def test_a_head_that_is_called_twice_is_given_all_targets_at_once():
    model = tiny()

    def peek(module, args, output):
        model.lm_head(output.last_hidden_state[:, :1])

    model.model.register_forward_hook(peek)
    facts = settle(model, padded((9, 4, 6)))
    assert facts.batched and not facts.sliced_head
    torch.testing.assert_close(
        per_example_gradient_norms(model, padded(), facts=facts),
        looped_gradient_norms(model, padded()),
        rtol=1e-4,
        atol=0,
    )
