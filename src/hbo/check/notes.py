"""The memory estimate in words, or why there is none.

What can be said of the measuring of gradient norms before any weight is loaded: which way each layer goes.

Whether it really goes that way is found out before the first step (`hbo.rewards.norms.settle`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from trl import SFTConfig

from hbo.check.memory import Memory, builder, estimate, is_sharded, zero_stage
from hbo.config import RunConfig
from hbo.config.rewards import needs
from hbo.errors import first_line
from hbo.rewards.norms.facts import Facts
from hbo.rewards.norms.recorder import owners_of
from hbo.run.arguments import is_checkpointing
from hbo.run.model import dtype_of
from hbo.scoring.models import model_config

_OTHERS = 8  # processes of the hint what sharding would save


def memory_notes(config: RunConfig, args: SFTConfig, spec: str | None, length: int | None) -> list[str]:
    """The estimate as `hbo check` prints it, a line each.

    Args:
        config: Run.
        args: Its `train:`.
        spec: Folder or Hub name of the model; None: what of it lies on this machine.
        length: Tokens of the longest row; None if that isn't known.

    Raises:
        Nothing.
    """
    trusts = bool(args.trust_remote_code)
    model = model_config(spec or config.model, trust_remote_code=trusts, offline=spec is None)
    if model is None:
        where = "isn't on this machine; hbo check asks the network for it" if spec is None else "can't be read"
        return [f"memory can't be estimated without the model's config.json, which {where}"]
    length = length or getattr(model, "max_position_embeddings", None)
    if length is None:
        return ["memory can't be estimated without the length of the longest row; set train.max_length"]
    try:
        found = estimate(config, args, model, length)
    except Exception as error:  # a model that transformers doesn't know raises anything
        return [f"memory can't be estimated: transformers can't make this model ({first_line(error)[:200]})"]
    return list(_told(args, found, length))


def _told(args: SFTConfig, alone: Memory, length: int) -> Iterator[str]:
    processes, sharded, stage = args.world_size, is_sharded(args), zero_stage(args)
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
    kept = "computed twice" if is_checkpointing(args) else "all kept: train.activation_checkpointing is false"
    if found.activations is None:
        parts.append("and on top the activations, which can't be told for this architecture")
    else:
        batch = f"{args.per_device_train_batch_size} rows of {length} tokens, {precision}, {kept}"
        parts.append(f"activations {_size(found.activations)} ({batch})")
    yield f"memory at the peak{where}, an estimate: {_size(found.total)} ({', '.join(parts)})"
    if processes == 1 and stage is None:
        total = _size(alone.on(_OTHERS, sharded=True).total)
        yield f"sharded by FSDP over {_OTHERS} processes, an estimate: {total} on each"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def norms_notes(config: RunConfig, args: SFTConfig, spec: str | None) -> list[str]:
    """How gradient norms will be measured, as `hbo check` prints it; nothing where no reward needs them.

    Args:
        config: Run.
        args: Its `train:`.
        spec: Folder or Hub name of the model; None: what of it lies on this machine.
    """
    balance = config.balance
    if "gradient_norm" not in needs(balance.global_reward, balance.local_reward):
        return []
    trusts = bool(args.trust_remote_code)
    found = model_config(spec or config.model, trust_remote_code=trusts, offline=spec is None)
    if found is None:
        return []  # the estimate of memory says so already
    try:
        with torch.device("meta"):
            owners = owners_of(builder(config, args)(found), Facts())
    except Exception as error:  # a model that transformers doesn't know raises anything
        return [f"how gradient norms are measured can't be told: this model can't be made ({first_line(error)[:200]})"]
    again = Counter(type(owner.layer).__name__ for owner in owners.values() if owner.again)
    if not again:
        return [
            "gradient norms: a batch in one pass, as far as its layers tell; a few rows are tried before the first step"
        ]
    kinds = ", ".join(f"{name} ({count} of them)" for name, count in again.most_common())
    return [
        f"gradient norms: a batch in one pass, but run again for each row, which is slower: {kinds}; a few rows are "
        "tried before the first step"
    ]
