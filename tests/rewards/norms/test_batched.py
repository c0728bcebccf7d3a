"""One pass over a batch: in the precision of training, without waiting for the device."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import FAMILIES, padded, tiny
from torch.utils._python_dispatch import TorchDispatchMode

from hbo.rewards.gradients import settle
from hbo.rewards.norms import outer_products
from hbo.rewards.norms.batched import batched_pass
from hbo.rewards.norms.left_as_found import left_as_found
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
        inner.activation_checkpointing_enable()
    facts = settle(model, padded((9, 4, 6)))
    model.to("meta")
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # there is none on this device
    monkeypatch.setattr(Autocast, "now", lambda device: Autocast("meta", torch.bfloat16, False))
    targets = Targets.of(padded((12, 4, 6, 7)), torch.device("meta"))
    with left_as_found(model), torch.enable_grad():
        found = batched_pass(model, targets, facts)
        assert found.recorder.total().shape == found.loss_B.shape == (4,)
    with pytest.raises((RuntimeError, NotImplementedError)):
        found.loss_B.sum().item()
