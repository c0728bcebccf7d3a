"""How much memory a run takes at its peak on each process, estimated before any weight is loaded.

    peak = weights + gradients + optimizer states + the larger of (activations of a batch, activations of an update)

    weights             parameters × bytes of a number (fp32 unless `train.model_init_kwargs.dtype` says otherwise)
    gradients           the same of the trained parameters: all of them, or the adapter's; DDP has them twice
    optimizer states    numbers per trained parameter by `train.optim`
    of a batch          longest row × `per_device_train_batch_size`, forward and backward (`hbo.check.weightless`);
                        of its logits one tile, since TRL never has those of a batch at once
    of an update        no more than of a batch, since probes are sized to it (`hbo.rewards.passes`); if
                        `balance.probe_tokens` is set, as many tokens, checkpointed as training is, a slice of logits

FSDP leaves each of N processes a part of N of the first three and one gathered block; before training every process
holds the whole model to score the rows. DeepSpeed's ZeRO shares by its stage.
Not counted: Python and its libraries, CUDA's context, fragmentation.

B rows of a batch, T tokens of a row, H numbers of a hidden state.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import PeftModel
from transformers import PretrainedConfig
from trl import SFTConfig

from hbo.check.weightless import Build, builder, peak_of, sizes_of
from hbo.config import RunConfig
from hbo.run.arguments import is_checkpointing
from hbo.run.model import dtype_of
from hbo.scoring.head import targets_at_once
from hbo.scoring.models import model_config
from hbo.text import first_line

_TILE = 4096, 32768  # tokens × words of the logits that TRL has at once
# Numbers that an optimizer keeps per trained parameter, by the beginning of its name; others are taken for Adam's two.
_STATES = {"sgd": 0, "adagrad": 1, "rmsprop": 1, "lion": 1, "schedule_free_sgd": 1, "ademamix": 3}
_OTHERS = 8  # processes of the hint what sharding would save


@dataclass(frozen=True)
class Memory:
    """Bytes on one process."""

    weights: int
    """The parameters that it holds."""
    gradients: int
    """Of those that are trained."""
    optimizer: int
    """Its states."""
    activations: int | None
    """The most of a batch or an update; None where it can't be told."""
    whole: int
    """All parameters, which every process holds while rows are scored."""
    block: int
    """Those of one layer."""

    @property
    def total(self) -> int:
        """The peak; without the activations if they aren't known."""
        return max(self.weights + self.gradients + self.optimizer + (self.activations or 0), self.whole)

    def on(self, processes: int, *, sharded: bool) -> Memory:
        """The same on each of several processes, by FSDP, which shares as ZeRO-3 does, or by DDP."""
        if sharded:
            return self.under_zero(3, processes)
        return self if processes == 1 else replace(self, gradients=2 * self.gradients)

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
        parts = ((weights, 3), (gradients, 2), (optimizer, 1))
        weights, gradients, optimizer = (math.ceil(n / processes) if stage >= least else n for n, least in parts)
        if stage >= 3 and processes > 1:
            weights += self.block  # gathered when its turn comes
        return replace(self, weights=weights, gradients=gradients, optimizer=optimizer)


def memory_notes(config: RunConfig, args: SFTConfig, spec: str | None, length: int | None) -> list[str]:
    """The estimate as lines that `hbo check` prints, or why there is none.

    `spec` is the model's folder or Hub name; None: only files on this machine are read. `length` is the length of the
    longest row in tokens; None if that isn't known.
    """
    trusts = bool(args.trust_remote_code)
    model = model_config(spec or config.model, trust_remote_code=trusts, offline=spec is None)
    if model is None:
        where = "isn't on this machine; hbo check downloads it" if spec is None else "can't be read"
        return [f"memory can't be estimated without the model's config.json, which {where}"]
    length = length or getattr(model, "max_position_embeddings", None)
    if length is None:
        return ["memory can't be estimated without the length of the longest row; set train.max_length"]
    try:
        found = estimate(config, args, model, length)
    except Exception as error:  # a model that transformers doesn't know raises anything
        return [f"memory can't be estimated: transformers can't make this model ({first_line(error)[:200]})"]
    return list(_told(args, found, length))


def estimate(config: RunConfig, args: SFTConfig, model: PretrainedConfig, length: int) -> Memory:
    """What a process takes that shares nothing with others, if the longest row has `length` tokens.

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


def _told(args: SFTConfig, alone: Memory, length: int) -> Iterator[str]:
    processes, sharded, stage = args.world_size, _is_sharded(args), _zero_stage(args)
    found, kind = alone.on(processes, sharded=sharded), "FSDP" if sharded else "DDP"
    if stage is not None:
        narrowed = dtype_of(args).itemsize if args.bf16 or args.fp16 else None
        found, kind = alone.under_zero(stage, processes, narrowed=narrowed), f"DeepSpeed's ZeRO-{stage}"
    where = f" on each of {processes} processes, {kind}" if processes > 1 else ""
    parts = [
        f"weights {_size(found.weights)}",
        f"gradients {_size(found.gradients)}",
        f"states of {args.optim.value} {_size(found.optimizer)}",
    ]
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    kept = "computed twice" if is_checkpointing(args) else "all kept, since train.activation_checkpointing is false"
    if found.activations is None:
        parts.append("plus activations, which can't be estimated for this architecture")
    else:
        batch = f"{args.per_device_train_batch_size} rows of {length} tokens, {precision}, {kept}"
        parts.append(f"activations {_size(found.activations)} ({batch})")
    yield f"at the peak{where}, an estimate: {_size(found.total)} ({', '.join(parts)})"
    if processes == 1 and stage is None:
        total = _size(alone.on(_OTHERS, sharded=True).total)
        yield f"sharded by FSDP over {_OTHERS} processes, an estimate: {total} on each"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _is_sharded(args: SFTConfig) -> bool:
    """Whether FSDP is asked for, by `train.fsdp` or by accelerate's launcher."""
    return bool(args.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def _zero_stage(args: SFTConfig) -> int | None:
    """The stage of ZeRO that `train.deepspeed` or accelerate's launcher asks for; None without DeepSpeed."""
    plugin: Any = getattr(args, "deepspeed_plugin", None)
    if plugin is None:
        return None
    stage = dict((plugin.deepspeed_config or {}).get("zero_optimization") or {}).get("stage", plugin.zero_stage)
    return stage if isinstance(stage, int) else 0


def _activations(config: RunConfig, args: SFTConfig, model: PretrainedConfig, build: Build, length: int) -> int:
    batch, words = args.per_device_train_batch_size, int(model.get_text_config().vocab_size)
    number = 2 if args.bf16 or args.fp16 else 4

    def passes(rows: int, logits: int) -> int:
        def forward(made: Any) -> torch.Tensor:
            made.train()
            inner = made.get_base_model() if isinstance(made, PeftModel) else made
            ids_BT = torch.zeros((rows, length), dtype=torch.long)
            with torch.autocast("cpu", torch.bfloat16, enabled=number == 2):
                hidden_BTH: torch.Tensor = inner.base_model(input_ids=ids_BT, use_cache=False)[0]
            return hidden_BTH

        # Of logits the product, and its softmax and gradient in fp32.
        return peak_of(build, model, forward) + logits * (number + 8)

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
