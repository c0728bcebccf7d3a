"""How much memory the activations of a step take, found by running the step without computing anything.

Under torch's fake tensors every operation of the model says the shape of its result and no number is computed or
stored, so a model of any size runs from its `config.json` alone. What is alive at the same time is added up.

B rows of a batch, T tokens of a row.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PretrainedConfig

_SHALLOW = 1, 2  # layers of the two models that all depths are concluded from

Build = Callable[[PretrainedConfig], nn.Module]
Pass = Callable[[nn.Module], Any]


class _Alive(TorchDispatchMode):
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


def peak_of(build: Build, config: PretrainedConfig, run: Pass) -> int:
    """The most bytes that `run(model)`, a forward and a backward, has alive besides the model and its gradients.

    Deep models are concluded from two shallow ones, every layer adding the same.

    Args:
        build: A configuration → the model; called where tensors are fake.
        config: The model's.
        run: The passes; called with the model, likewise.

    Raises:
        Exception: Whatever the model raises if its passes depend on the numbers in its tensors.
    """
    depth = getattr(config, "num_hidden_layers", 0)
    if depth <= max(_SHALLOW):
        return _peak(build, config, run)
    low, high = (_peak(build, _shallow(config, layers), run) for layers in _SHALLOW)
    return round(high + (high - low) / (_SHALLOW[1] - _SHALLOW[0]) * (depth - _SHALLOW[1]))


def sizes_of(build: Build, config: PretrainedConfig) -> list[tuple[torch.Size, bool, int]]:
    """Shape, whether it is trained, and bytes of a number, of every parameter of the model.

    Raises:
        Exception: Whatever transformers raises for a configuration that it doesn't know.
    """
    with torch.device("meta"):
        model = build(config)
    return [(each.shape, each.requires_grad, each.element_size()) for each in model.parameters()]


def _peak(build: Build, config: PretrainedConfig, run: Pass) -> int:
    with FakeTensorMode():
        model = build(config)
        for parameter in model.parameters():
            if parameter.requires_grad:  # gradients are counted apart; with accumulation they are there all the time
                parameter.register_post_accumulate_grad_hook(_forget)
        with _Alive([*model.parameters(), *model.buffers()]) as alive:
            run(model)
    return alive.peak


def _forget(parameter: torch.Tensor) -> None:
    parameter.grad = None


def _shallow(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    shallow = copy.deepcopy(config)
    shallow.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        shallow.layer_types = config.layer_types[:layers]
    return shallow
