"""A model that is made without its weights: how large its parameters are, and what its passes keep in memory.

Under torch's fake tensors every operation of the model says the shape of its result and no number is computed or
stored, so a model of any size runs from its `config.json` alone. What is alive at the same time is added up.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from peft import get_peft_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, PretrainedConfig
from trl import SFTConfig

from hbo.config import RunConfig
from hbo.run.arguments import CHECKPOINTING, adapter, is_checkpointing
from hbo.run.model import dtype_of

_SHALLOW = 1, 2  # layers of the two models from which deeper ones are concluded

Build = Callable[[PretrainedConfig], nn.Module]
Forward = Callable[[nn.Module], torch.Tensor]


def builder(config: RunConfig, args: SFTConfig) -> Build:
    """Makes the model that would be trained, with its adapter, of a model's `config.json`."""
    lora = adapter(config)

    def build(model: PretrainedConfig) -> nn.Module:
        made: Any = AutoModelForCausalLM.from_config(
            model, dtype=dtype_of(args), trust_remote_code=args.trust_remote_code
        )
        made.config.use_cache = False
        if is_checkpointing(args):
            enable = getattr(made, f"{CHECKPOINTING}_enable")
            enable(getattr(args, f"{CHECKPOINTING}_kwargs"))
            made.enable_input_require_grads()
        module: nn.Module = made if lora is None else get_peft_model(made, lora)
        return module

    return build


def sizes_of(build: Build, config: PretrainedConfig) -> list[tuple[torch.Size, bool, int]]:
    """Shape, whether it is trained, and bytes of a number, of every parameter of the model.

    Raises:
        Exception: Whatever transformers raises for a configuration that it doesn't know.
    """
    with torch.device("meta"):
        model = build(config)
    return [(each.shape, each.requires_grad, each.element_size()) for each in model.parameters()]


def peak_of(build: Build, config: PretrainedConfig, forward: Forward) -> int:
    """The most bytes that a forward and its backward have alive besides the model and its gradients.

    A deep model is concluded from two shallow ones: each further layer keeps as much for the backward as the second.
    `build` and `forward`, whose result the backward starts from, are called where tensors are fake.

    Raises:
        Exception: Whatever the model raises if its passes depend on the numbers in its tensors.
    """
    depth = getattr(config, "num_hidden_layers", 0)
    if depth <= max(_SHALLOW):
        return _passes(build, config, forward)[1]
    (kept, _), (kept_deeper, peak) = (_passes(build, _shallow(config, layers), forward) for layers in _SHALLOW)
    return peak + (kept_deeper - kept) * (depth - max(_SHALLOW))


class Alive(TorchDispatchMode):
    """Adds up the bytes of all tensors that are alive, but for those known before."""

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.seen = {tensor.untyped_storage()._cdata for tensor in known}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.seen:
            return
        self.seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


def _passes(build: Build, config: PretrainedConfig, forward: Forward) -> tuple[int, int]:
    """Bytes kept between forward and backward, and the most at any time."""
    with FakeTensorMode():
        model = build(config)
        for parameter in model.parameters():
            if parameter.requires_grad:  # gradients are counted apart; with accumulation they are there all the time
                parameter.register_post_accumulate_grad_hook(_forget)
        alive = Alive([*model.parameters(), *model.buffers()])
        with alive:
            result = forward(model)
            kept = alive.now
            result.sum().backward()
    return kept, alive.peak


def _forget(parameter: torch.Tensor) -> None:
    parameter.grad = None


def _shallow(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    shallow = copy.deepcopy(config)
    shallow.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        shallow.layer_types = config.layer_types[:layers]
    return shallow
