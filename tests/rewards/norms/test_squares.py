"""A batch in one pass, in the precision of training and without waiting for the device; a row by plain autograd."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import FAMILIES, checkpoint_layers, one_at_a_time, padded, tiny
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointImpl, checkpoint_wrapper
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from hbo.rewards.gradients import looped_gradient_norms, per_example_gradient_norms, settle
from hbo.rewards.norms import outer_products, squares
from hbo.rewards.norms.left_as_found import left_as_found
from hbo.rewards.norms.squares import batched_pass, recomputing
from hbo.scoring.devices import Autocast
from hbo.scoring.targets import Targets


class Products(TorchDispatchMode):
    """Notes the types that are multiplied as matrices."""

    def __init__(self):
        super().__init__()
        self.types = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.baddbmm):
            self.types.append({each.dtype for each in args if isinstance(each, torch.Tensor)})
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_under_autocast_norms_are_multiplied_in_bf16(monkeypatch, family):
    model, batch = tiny(family), padded((9, 4, 6))
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():  # linear layers: the rest looks ids up, or has vectors
        parameter.requires_grad_(
            parameter.dim() == 2 and "emb" not in name and name.split(".")[-2] not in ("wte", "wpe")
        )
    watch = Products()
    real = outer_products.Outer.square_norms

    def watched(use, *last):
        with watch:
            return real(use, *last)

    with torch.autocast("cpu", torch.bfloat16):
        facts = settle(model, batch)
        monkeypatch.setattr(outer_products.Outer, "square_norms", watched)
        with left_as_found(model), torch.enable_grad():
            batched_pass(model, Targets.of(batch, torch.device("cpu")), facts).recorder.total()
    trained = sum(parameter.requires_grad for parameter in model.parameters())
    assert trained > 4 and len(watch.types) >= trained
    assert all(types == {torch.bfloat16} for types in watch.types)


def adapted(**config):
    return get_peft_model(tiny(), LoraConfig(r=4, target_modules=["q_proj", "down_proj"], **config))


@pytest.mark.parametrize("kind", ["llama", "llama-tied", "gpt2", "gemma2", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_pass_never_waits_for_the_device(monkeypatch, kind, checkpointing):
    """On the meta device nothing has a value, so that whatever asks for one raises."""
    model = adapted() if kind == "lora" else FAMILIES[kind]()
    inner = model.get_base_model() if kind == "lora" else model
    inner.set_attn_implementation("eager")  # transformers itself looks at the mask before it takes another
    if checkpointing:
        checkpoint_layers(inner)
    facts = settle(model, padded((9, 4, 6)))
    model.to("meta")
    # torch 2.4 knows no such device where it computes activations twice.
    monkeypatch.setattr(torch, "meta", torch.device("meta"), raising=False)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # there is none on this device
    monkeypatch.setattr(Autocast, "now", lambda device: Autocast("meta", torch.bfloat16, False))
    targets = Targets.of(padded((12, 4, 6, 7)), torch.device("meta"))
    with left_as_found(model), torch.enable_grad():
        found = batched_pass(model, targets, facts)
        assert found.recorder.total().shape == found.loss_B.shape == (4,)
    with pytest.raises((RuntimeError, NotImplementedError)):
        found.loss_B.sum().item()


class Gated(nn.Module):
    """An RNN keeps a list of its own parameters, which nobody can swap."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(32, 32, batch_first=True)

    def forward(self, x):
        return x + self.gru(x)[0]


class Reentrant(nn.Module):
    """Runs its block anew in the backward, by code that reenters autograd."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=True)


def with_rnn(model):
    model.model.layers[0].mlp = Gated()


def with_reentrant_block(model):
    model.model.layers[0].mlp = Reentrant(model.model.layers[0].mlp)


def with_block_used_inside_and_outside(model):
    model.model.layers[1].mlp = Reentrant(model.model.layers[0].mlp)


def with_closure(model):
    mlp = model.model.layers[0].mlp
    weight = mlp.gate_proj.weight
    mlp.forward = lambda x: mlp.down_proj(nn.functional.silu(x @ weight.T) * mlp.up_proj(x))


@pytest.mark.parametrize(
    "change",
    [with_rnn, with_reentrant_block, with_block_used_inside_and_outside, with_closure],
    ids=lambda f: f.__name__,
)
def test_gradients_that_go_past_a_swapped_parameter_are_counted(change):
    model, batch = tiny(), padded((9, 4))
    change(model)
    expected = plain(model, batch)
    torch.testing.assert_close(looped_gradient_norms(model, batch), expected, rtol=1e-5, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())


def plain(model, batch):
    """As `one_at_a_time`, on the model itself: a copy's closures would be those of the original."""
    was_training, norms = model.training, []
    model.eval()
    for r in range(len(batch["labels"])):
        real = batch["attention_mask"][r].bool()
        model(**{name: tensor[r : r + 1, real] for name, tensor in batch.items()}).loss.backward()
        norms.append(sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None).sqrt())
        model.zero_grad()
    model.train(was_training)
    return torch.stack(norms)


def test_gradients_are_dropped_as_they_come(monkeypatch):
    model, batch, alive, most = tiny("llama-tied"), padded((9, 4)), [], []
    square = squares.square

    def counted(gradient):
        alive.append(StorageWeakRef(gradient.untyped_storage()))
        most.append(sum(not each.expired() for each in alive))
        return square(gradient)

    monkeypatch.setattr(squares, "square", counted)
    looped_gradient_norms(model, batch)
    assert len(most) == 2 * len(list(model.parameters()))
    assert max(most) <= 3


def test_each_parameter_has_its_own_square_and_those_without_a_part_have_none():
    model = tiny("llama-biases").eval()
    model.extra = nn.Parameter(torch.ones(3))
    targets = Targets.of(padded((9, 4)), torch.device("cpu"))
    with torch.enable_grad():
        found, loss = squares.squares_of_row(model, targets, 0)
    norms, losses = one_at_a_time(model, padded((9, 4)))
    assert set(found) == {name for name, _ in model.named_parameters()} - {"extra"}
    torch.testing.assert_close(squares.norm_of(found, loss.device), norms[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(loss, losses[0])


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
    batch, bytes_of = padded((40, 40, 40)), []  # no padding: transformers before 5.0 maps over rows to make its mask
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = tiny()
        model.model.layers = nn.ModuleList([tiny(seed=seed).model.layers[0] for seed in range(8)])
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("norm" not in name)  # torch can't map over a layer while saved tensors are counted
        if checkpointing:
            checkpoint_layers(model)
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
    checkpoint_layers(model)
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
    checkpoint_layers(model)
    model.model.layers[0].input_layernorm.register_forward_hook(lambda module, *_: modes.append(module.training))
    with recomputing(model):
        model(**padded((5, 4)), use_cache=False).loss.backward()
    assert modes == [False, False]
    assert not any(module.training for module in model.modules())
