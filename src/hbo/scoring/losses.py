"""A batch → the loss of each of its rows: the one implementation, used to score difficulty and as reward.

A row's loss is the mean over its target tokens, in nats. Letters: B rows of a batch, T tokens of a padded row,
N rows of a dataset (or targets of a batch), V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import Cache, PreTrainedModel

from hbo.data.tokens import IGNORED
from hbo.progress import Track, silent
from hbo.scoring.batches import TOKEN_BUDGET, Row, Rows, lengths, pack, pad, reader
from hbo.scoring.matmul import fast_matmul

_INPUTS = ("input_ids", "attention_mask", "position_ids", "token_type_ids")
_SLICE = 2**24  # logits worked on at once: 64 MB in fp32
_CPU_SLICE = 2**20  # 4 MB, which stay in the caches


def per_example_loss(model: nn.Module, batch: Mapping[str, Tensor], cache: Cache | None = None) -> Tensor:
    """Each row's mean target-token loss (B,) in nats, in fp32 and differentiable; NaN for a row without a target.

    The model stays in the mode it is in (train or eval), and runs under the caller's autocast if there is one.

    Args:
        model: A causal language model, also wrapped by PEFT, accelerate or DistributedDataParallel.
        batch: `input_ids`, `attention_mask` and `labels`, each (B, T). Labels aren't shifted (the token at t is
            predicted at t − 1) and are −100 where not a target.
        cache: Keys and values of tokens that stand before every row; `attention_mask` is (B, those + T) then. The
            model adds to it.

    Raises:
        Nothing of its own.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(
        ...     vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
        ... )
        >>> ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
        >>> batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
        >>> per_example_loss(LlamaForCausalLM(config), batch).shape
        torch.Size([2])
    """
    device = next(model.parameters()).device
    inputs = {name: batch[name].to(device) for name in _INPUTS if name in batch}
    labels_BT = batch["labels"].to(device)
    before_BT = torch.zeros_like(labels_BT, dtype=torch.bool)  # True where the logits predict a target
    before_BT[:, :-1] = labels_BT[:, 1:] != IGNORED
    if "attention_mask" in inputs:
        before_BT &= inputs["attention_mask"][
            :, -labels_BT.shape[1] :
        ].bool()  # nothing real predicts the first token after left padding
    loss_BT = torch.zeros(labels_BT.shape, device=device)
    if before_BT.any():
        label_N = labels_BT.roll(-1, dims=1)[before_BT]
        loss_BT[before_BT] = _token_losses(_target_logits(model, inputs, before_BT, cache), label_N)
    return loss_BT.sum(1) / before_BT.sum(1)


def row_losses(
    model: nn.Module,
    rows: Rows,
    *,
    pad_token_id: int,
    token_budget: int = TOKEN_BUDGET,
    track: Track = silent,
    phase: str = "scoring",
) -> np.ndarray:
    """The mean target-token loss (N,) of each row, in nats and in fp64; NaN for a row without a target.

    The model runs in eval mode without gradients, and is in its former mode afterwards. Rows are batched by length,
    which changes no loss beyond rounding; only one batch is in memory at a time.

    Args:
        model: As in `per_example_loss`.
        rows: A Dataset, or mappings, with `input_ids` and `labels`.
        pad_token_id: Any valid id; padding is masked.
        token_budget: Padded tokens per batch; a longer row is a batch of its own.
        track: Hears of each row.
        phase: What it is told is being done.

    Raises:
        Nothing of its own.
    """
    read = reader(rows)
    loss_N = np.full(len(rows), np.nan)
    length_N = lengths(rows)
    with track(phase, len(rows)) as advance, evaluating(model):
        for rows_B in pack(length_N, np.arange(len(rows)), token_budget):
            loss_N[rows_B] = batch_losses(model, read(rows_B), pad_token_id)
            advance(len(rows_B))
    return loss_N


def batch_losses(model: nn.Module, rows: Sequence[Row], pad_token_id: int) -> np.ndarray:
    """The losses (B,) of these rows as one batch, without gradients, in fp64.

    Raises:
        Nothing of its own.
    """
    with torch.no_grad():
        loss_B: np.ndarray = per_example_loss(model, pad(rows, pad_token_id)).cpu().double().numpy()
    return loss_B


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and each of its submodules in its former mode afterwards.

    Raises:
        Nothing of its own.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with fast_matmul(next(model.parameters()).device):
            yield
    finally:
        for module, mode in modes:
            module.training = mode  # not .train(mode), which would reach into the children


def _target_logits(
    model: nn.Module, inputs: Mapping[str, Tensor], before_BT: Tensor, cache: Cache | None = None
) -> Tensor:
    """The logits (N, V) that predict the targets."""
    keep = {"logits_to_keep": before_BT} if head_of(model) else {}
    past = {"past_key_values": cache, "use_cache": True} if cache is not None else {"use_cache": False}
    logits: Tensor = model(**inputs, **past, **keep).logits
    if logits.ndim == 2:
        return logits
    # Prompt tuning puts learned tokens before the row, and the model answers for these too.
    return logits[:, -before_BT.shape[1] :][before_BT]


def head_of(model: nn.Module) -> PreTrainedModel | None:
    """The model inside all wrappers, if it can run its head on chosen positions only; else None.

    That saves most of the head where prompts are long. It also says that the code is transformers' own.

    Raises:
        Nothing.
    """
    inner: PreTrainedModel | None = None
    for module in model.modules():
        if isinstance(module, PeftModel) and module.active_peft_config.is_prompt_learning:
            return None
        if isinstance(module, PreTrainedModel):
            inner = module
            break
    # Code from elsewhere may know the argument, but as a number only.
    knows = (
        inner is not None
        and type(inner).__module__.startswith("transformers.")
        and "logits_to_keep" in inspect.signature(type(inner).forward).parameters
    )
    return inner if knows else None


def targets_at_once(logits_NV: Tensor) -> int:
    """How many targets' logits a softmax in fp32 should take at once.

    Raises:
        Nothing.
    """
    logits = _CPU_SLICE if logits_NV.device.type == "cpu" else _SLICE
    return max(1, logits // logits_NV.shape[-1])


def _token_losses(logits_NV: Tensor, label_N: Tensor) -> Tensor:
    """The loss (N,) of each target, its softmax in fp32 and a slice at a time."""
    step = targets_at_once(logits_NV)
    slices = zip(logits_NV.split(step), label_N.split(step), strict=True)
    return torch.cat([functional.cross_entropy(logits.float(), label, reduction="none") for logits, label in slices])
