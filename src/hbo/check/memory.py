"""How much memory a run takes at its peak on each process, estimated before any weight is loaded.

    peak = weights + gradients + optimizer states + the larger of (activations of a batch, activations of an update)

    weights             parameters × bytes of a number (fp32 unless `train.model_init_kwargs.dtype` says otherwise)
    gradients           the same of the trained parameters: all of them, or the adapter's; DDP has them twice
    optimizer states    numbers per trained parameter by `train.optim`
    of a batch          longest row × `per_device_train_batch_size`, forward and backward (`hbo.check.memory`);
                        of its logits one tile, since TRL never has those of a batch at once
    of an update        no more than of a batch, since probes are sized to it (`hbo.rewards.passes`); if
                        `balance.probe_tokens` is set, as many tokens, checkpointed as training is, a slice of logits

FSDP leaves each of N processes a part of N of the first three and one gathered block; before training every process
holds the whole model to score the rows. DeepSpeed's ZeRO shares by its stage.
Not counted: Python and its libraries, CUDA's context, fragmentation.

How much memory the activations of a step take, found by running the step without computing anything.

Under torch's fake tensors every operation of the model says the shape of its result and no number is computed or
stored, so a model of any size runs from its `config.json` alone. What is alive at the same time is added up.

B rows of a batch, T tokens of a row.
"""

from __future__ import annotations

import copy
import math
import os
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, PretrainedConfig
from trl import SFTConfig

from hbo.config import RunConfig
from hbo.run.arguments import CHECKPOINTING, adapter, is_checkpointing
from hbo.run.model import dtype_of
from hbo.scoring.head import targets_at_once

_TILE = 4096, 32768  # tokens × words of the logits that TRL has at once
# Numbers that an optimizer keeps per trained parameter, by the beginning of its name; others are taken for Adam's two.
_STATES = {"sgd": 0, "adagrad": 1, "rmsprop": 1, "lion": 1, "schedule_free_sgd": 1, "ademamix": 3}


@dataclass(frozen=True)
class Memory:
    """Bytes on one process.

    Attributes:
        weights: The parameters that it holds.
        gradients: Of those that are trained.
        optimizer: Its states.
        activations: The most of a batch or an update; None where it can't be told.
        whole: All parameters, which every process holds while rows are scored.
        block: Those of one layer.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int | None
    whole: int
    block: int

    @property
    def total(self) -> int:
        """The peak; without the activations if they aren't known."""
        return max(self.weights + self.gradients + self.optimizer + (self.activations or 0), self.whole)

    def on(self, processes: int, *, sharded: bool) -> Memory:
        """The same on each of several processes, by FSDP or by DDP."""
        if processes == 1:
            return self
        if not sharded:
            return replace(self, gradients=2 * self.gradients)
        parts = (math.ceil(value / processes) for value in (self.weights, self.gradients, self.optimizer))
        weights, gradients, optimizer = parts
        return replace(self, weights=weights + self.block, gradients=gradients, optimizer=optimizer)

    def under_zero(self, stage: int, processes: int, *, narrowed: int | None = None) -> Memory:
        """The same on each of several processes, by DeepSpeed without offloading.

        Args:
            stage: ZeRO's: from 1 on states are shared, from 2 on gradients, with 3 the weights.
            processes: How many they are.
            narrowed: Where it trains in bf16 or fp16, the bytes of a number that the weights were loaded in: it makes
                them 2, and keeps a copy in fp32 with the states.
        """
        weights, gradients, optimizer = self.weights, self.gradients, self.optimizer
        if narrowed:
            optimizer = (optimizer + gradients) * 4 // narrowed
            weights, gradients = weights * 2 // narrowed, gradients * 2 // narrowed
        shares = [processes if stage >= least else 1 for least in (3, 2, 1)]
        parts = (math.ceil(n / by) for n, by in zip((weights, gradients, optimizer), shares, strict=True))
        weights, gradients, optimizer = parts
        gathered = self.block if shares[0] > 1 else 0
        return replace(self, weights=weights + gathered, gradients=gradients, optimizer=optimizer)


def estimate(config: RunConfig, args: SFTConfig, model: PretrainedConfig, length: int) -> Memory:
    """What a process takes that shares nothing with others.

    Args:
        config: Run.
        args: Its `train:`.
        model: The model's `config.json`.
        length: Tokens of the longest row.

    Raises:
        Exception: Whatever transformers raises for a model that it doesn't know.
    """
    build = builder(config, args)
    sizes = sizes_of(build, model)
    trained = [(shape, width) for shape, is_trained, width in sizes if is_trained]
    weights = sum(shape.numel() * width for shape, _, width in sizes)
    gradients = sum(shape.numel() * width for shape, width in trained)
    optimizer = sum(_states(args.optim.value, shape, width) for shape, width in trained)
    try:
        activations = _activations(config, args, model, build, length)
    except Exception:  # a model whose passes depend on the numbers in its tensors raises anything
        activations = None
    block = weights // max(1, getattr(model, "num_hidden_layers", 1))
    return Memory(weights, gradients, optimizer, activations, weights, block)


def is_sharded(args: SFTConfig) -> bool:
    """Whether FSDP is asked for, by `train.fsdp` or by accelerate's launcher."""
    return bool(args.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def zero_stage(args: SFTConfig) -> int | None:
    """The stage of ZeRO that `train.deepspeed` or accelerate's launcher asks for; None without DeepSpeed."""
    plugin: Any = getattr(args, "deepspeed_plugin", None)
    if plugin is None:
        return None
    stage = dict((plugin.deepspeed_config or {}).get("zero_optimization") or {}).get("stage", plugin.zero_stage)
    return stage if isinstance(stage, int) else 0


def builder(config: RunConfig, args: SFTConfig) -> Callable[[PretrainedConfig], nn.Module]:
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


def _activations(
    config: RunConfig,
    args: SFTConfig,
    model: PretrainedConfig,
    build: Callable[[PretrainedConfig], nn.Module],
    length: int,
) -> int:
    batch = args.per_device_train_batch_size
    words = int(model.get_text_config().vocab_size)
    number = 2 if args.bf16 or args.fp16 else 4

    def forward(shape: tuple[int, int]) -> Callable[[Any], torch.Tensor]:
        def hidden(made: Any) -> torch.Tensor:
            made.train()
            inner = made.get_base_model() if isinstance(made, PeftModel) else made
            ids_BT = torch.zeros(shape, dtype=torch.long)
            with torch.autocast("cpu", torch.bfloat16, enabled=number == 2):
                hidden_BTH: torch.Tensor = inner.base_model(input_ids=ids_BT, use_cache=False)[0]
            return hidden_BTH

        return hidden

    def passes(rows: int, logits: int) -> int:
        # Of logits the product, and its softmax and gradient in fp32.
        return peak_of(build, model, forward((rows, length))) + logits * (number + 8)

    step = passes(batch, min(batch * length, _TILE[0]) * min(words, _TILE[1]))
    if config.balance.is_static or config.balance.rewards != "probe" or config.balance.probe_tokens is None:
        return step
    rows = max(1, config.balance.probe_tokens // length)
    device = torch.device("cpu" if args.use_cpu else "cuda")
    logits = min(rows * length, targets_at_once(words=words, device=device)) * words
    return max(step, passes(rows, logits))


def _states(optim: str, shape: torch.Size, width: int) -> int:
    """Bytes that an optimizer keeps for a parameter of this shape."""
    if "adafactor" in optim:  # a row and a column for each matrix
        return 4 * (sum(shape[-2:]) * math.prod(shape[:-2]) if len(shape) > 1 else shape.numel())
    name = optim.removeprefix("paged_")
    numbers = next((count for start, count in _STATES.items() if name.startswith(start)), 2)
    return shape.numel() * numbers * (1 if "bit" in name else width)


_SHALLOW = 1, 2  # layers of the two models from which deeper ones are concluded

Build = Callable[[PretrainedConfig], nn.Module]
Forward = Callable[[nn.Module], torch.Tensor]


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


def peak_of(build: Build, config: PretrainedConfig, forward: Forward) -> int:
    """The most bytes that a forward and its backward have alive besides the model and its gradients.

    A deep model is concluded from two shallow ones: each further layer keeps as much for the backward as the second.

    Args:
        build: A configuration → the model; called where tensors are fake.
        config: The model's.
        forward: The model → what the backward starts from; likewise.

    Raises:
        Exception: Whatever the model raises if its passes depend on the numbers in its tensors.
    """
    depth = getattr(config, "num_hidden_layers", 0)
    if depth <= max(_SHALLOW):
        return _passes(build, config, forward)[1]
    (kept, _), (kept_deeper, peak) = (_passes(build, _shallow(config, layers), forward) for layers in _SHALLOW)
    return peak + (kept_deeper - kept) * (depth - max(_SHALLOW))


def sizes_of(build: Build, config: PretrainedConfig) -> list[tuple[torch.Size, bool, int]]:
    """Shape, whether it is trained, and bytes of a number, of every parameter of the model.

    Raises:
        Exception: Whatever transformers raises for a configuration that it doesn't know.
    """
    with torch.device("meta"):
        model = build(config)
    return [(each.shape, each.requires_grad, each.element_size()) for each in model.parameters()]


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
