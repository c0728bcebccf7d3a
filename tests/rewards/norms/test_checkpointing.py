"""A measurement computes activations anew where training does."""

from __future__ import annotations

import pytest
import torch
from tiny_models import one_at_a_time, padded, tiny
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointImpl, checkpoint_wrapper

from hbo.rewards.gradients import looped_gradient_norms, per_example_gradient_norms, settle
from hbo.rewards.norms.batched import recomputing


def kept_by(measure):
    """Bytes that autograd keeps for the backward, at most."""
    kept, most = {}, [0]

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor
            kept[id(self)] = tensor.numel() * tensor.itemsize
            most[0] = max(most[0], sum(kept.values()))

        def __del__(self):
            kept.pop(id(self), None)

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda each: each.tensor):
        measure()
    return most[0]


@pytest.mark.parametrize("measure", [per_example_gradient_norms, looped_gradient_norms])
def test_activations_are_kept_for_one_layer_only(measure):
    batch, bytes_of = padded((40, 39, 38)), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = tiny()
        model.model.layers = nn.ModuleList([tiny(seed=seed).model.layers[0] for seed in range(8)])
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("norm" not in name)  # torch can't map over a layer while saved tensors are counted
        if checkpointing:
            model.activation_checkpointing_enable()
        more = {} if measure is looped_gradient_norms else {"facts": settle(model, padded((5, 4, 3)))}
        bytes_of.append(kept_by(lambda model=model, more=more: measure(model, batch, **more)))
    assert bytes_of[1] < 0.4 * bytes_of[0]


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("implementation", list(CheckpointImpl))
@pytest.mark.parametrize("shared", [False, True], ids=["two layers", "one layer twice"])
def test_torchs_own_wrapper_is_exact_though_it_computes_anew_in_eval_mode_too(implementation, shared):
    model = tiny()
    model.enable_input_require_grads()
    layers = [checkpoint_wrapper(layer, checkpoint_impl=implementation) for layer in model.model.layers]
    model.model.layers = nn.ModuleList([layers[0], layers[0 if shared else 1]])
    batch = padded((9, 4, 6))
    facts = settle(model, batch)
    expected = one_at_a_time(model, batch)[0]
    assert facts.batched
    torch.testing.assert_close(per_example_gradient_norms(model, batch, facts=facts), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(looped_gradient_norms(model, batch), expected, rtol=1e-4, atol=0)


def test_a_block_that_fails_while_it_is_computed_anew_is_left_as_it_was():
    model, batch, calls = tiny(), padded((9, 4)), []
    model.activation_checkpointing_enable()
    facts = settle(model, batch)
    blocks = list(model.model.layers)
    before = [(block._gradient_checkpointing_func, block.training) for block in blocks]

    def fail_later(*_):
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("the second time")

    model.model.layers[1].input_layernorm.register_forward_hook(fail_later)
    with pytest.raises(KeyError):
        per_example_gradient_norms(model, batch, facts=facts)
    assert [(block._gradient_checkpointing_func, block.training) for block in blocks] == before
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_layers_are_in_eval_mode_while_they_are_computed_twice():
    model, modes = tiny().eval(), []
    model.activation_checkpointing_enable()
    model.model.layers[0].input_layernorm.register_forward_hook(lambda module, *_: modes.append(module.training))
    with recomputing(model):
        model(**padded((5, 4)), use_cache=False).loss.backward()
    assert modes == [False, False]
    assert not any(module.training for module in model.modules())
