"""A batch → the loss of each of its rows: the one implementation, used to score difficulty and as reward.

A row's loss is the mean over its target tokens, in nats. Letters: B rows of a batch, T tokens of a padded row,
N rows of a dataset or target tokens of a batch, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from hbo.data.tokens import IGNORED
from hbo.progress import Track, silent

Row = tuple[np.ndarray, np.ndarray]
"""A row's token ids (T,) and labels (T,)."""

Read = Callable[[np.ndarray], Sequence[Row]]
"""Row numbers (B,) → these rows."""

TOKEN_BUDGET = 1024
"""Padded tokens per batch; on a CPU larger batches are no faster (SmolLM2-135M, 2 cores)."""

_INPUTS = ("input_ids", "attention_mask", "position_ids", "token_type_ids")
_SLICE = 2**24  # logits worked on at once: 64 MB in fp32


def per_example_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Each row's mean target-token loss (B,) in nats, in fp32 and differentiable; NaN for a row without a target.

    The model stays in the mode it is in (train or eval), and runs under the caller's autocast if there is one.

    Args:
        model: A causal language model, also wrapped by PEFT, accelerate or DistributedDataParallel.
        batch: `input_ids`, `attention_mask` and `labels`, each (B, T). Labels aren't shifted (the token at t is
            predicted at t − 1) and are −100 where not a target.

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
        before_BT &= inputs["attention_mask"].bool()  # nothing real predicts the first token after left padding
    loss_BT = torch.zeros(labels_BT.shape, device=device)
    if before_BT.any():
        loss_N = _token_losses(_target_logits(model, inputs, before_BT), labels_BT.roll(-1, dims=1)[before_BT])
        loss_BT[before_BT] = loss_N
    return loss_BT.sum(1) / before_BT.sum(1)


def row_losses(
    model: nn.Module,
    rows: Dataset | Sequence[Mapping[str, Any]],
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
        rows: Rows with `input_ids` and `labels`.
        pad_token_id: Any valid id; padding is masked.
        token_budget: Padded tokens per batch; a longer row is a batch of its own.
        track: Hears of each row.
        phase: What it is told is being done.

    Raises:
        Nothing of its own.
    """
    read = reader(rows)
    loss_N = np.full(len(rows), np.nan)
    length_N = _lengths(rows)
    with track(phase, len(rows)) as advance, evaluating(model):
        for rows_B in batches(length_N, np.arange(len(rows)), token_budget):
            loss_N[rows_B] = batch_losses(model, read(rows_B), pad_token_id)
            advance(len(rows_B))
    return loss_N


def reader(rows: Dataset | Sequence[Mapping[str, Any]]) -> Read:
    """A way to read the token ids and labels of any rows of a dataset or list.

    Raises:
        Nothing.
    """
    if not isinstance(rows, Dataset):
        return lambda rows_B: [(np.asarray(rows[i]["input_ids"]), np.asarray(rows[i]["labels"])) for i in rows_B]
    columns = rows.select_columns(["input_ids", "labels"]).with_format("numpy")

    def read(rows_B: np.ndarray) -> list[Row]:
        found = columns[rows_B]
        return list(zip(found["input_ids"], found["labels"], strict=True))

    return read


def batches(length_N: np.ndarray, wanted: np.ndarray, token_budget: int) -> Iterator[np.ndarray]:
    """The row numbers of each batch: rows of like length together, the longest first, at most the budget when padded.

    The longest come first so that a lack of memory shows at once.

    Raises:
        Nothing.

    Example:
        >>> [rows_B.tolist() for rows_B in batches(np.array([3, 9, 4, 1]), np.arange(4), token_budget=8)]
        [[1], [2, 0], [3]]
    """
    order = wanted[np.argsort(-length_N[wanted], kind="stable")]
    at = 0
    while at < len(order):
        size = max(1, token_budget // max(1, int(length_N[order[at]])))
        yield order[at : at + size]
        at += size


def batch_losses(model: nn.Module, rows: Sequence[Row], pad_token_id: int) -> np.ndarray:
    """The losses (B,) of these rows as one batch, without gradients, in fp64.

    Raises:
        Nothing of its own.
    """
    longest = max(1, *(len(ids) for ids, _ in rows))
    batch = {
        "input_ids": torch.full((len(rows), longest), pad_token_id),
        "attention_mask": torch.zeros((len(rows), longest), dtype=torch.long),
        "labels": torch.full((len(rows), longest), IGNORED),
    }
    for i, (ids, labels) in enumerate(rows):
        batch["input_ids"][i, : len(ids)] = torch.as_tensor(ids)
        batch["attention_mask"][i, : len(ids)] = 1
        batch["labels"][i, : len(ids)] = torch.as_tensor(labels)
    with torch.no_grad():
        return per_example_loss(model, batch).double().cpu().numpy()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and each of its submodules in its former mode afterwards.

    Raises:
        Nothing of its own.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode  # not .train(mode), which would reach into the children


def _target_logits(model: nn.Module, inputs: Mapping[str, Tensor], before_BT: Tensor) -> Tensor:
    """The logits (N, V) that predict the targets."""
    keep = {"logits_to_keep": before_BT} if _head_takes_mask(model) else {}
    logits: Tensor = model(**inputs, use_cache=False, **keep).logits
    if logits.ndim == 2:
        return logits
    # Prompt tuning puts learned tokens before the row, and the model answers for these too.
    return logits[:, -before_BT.shape[1] :][before_BT]


def _head_takes_mask(model: nn.Module) -> bool:
    """Whether the model can run its head on chosen positions only, which saves most of it where prompts are long."""
    inner: PreTrainedModel | None = None
    for module in model.modules():
        if isinstance(module, PeftModel) and module.active_peft_config.is_prompt_learning:
            return False
        if isinstance(module, PreTrainedModel):
            inner = module
            break
    # Code from elsewhere may know the argument, but as a number only.
    return (
        inner is not None
        and type(inner).__module__.startswith("transformers.")
        and "logits_to_keep" in inspect.signature(type(inner).forward).parameters
    )


def _token_losses(logits_NV: Tensor, label_N: Tensor) -> Tensor:
    """The loss (N,) of each target, its softmax in fp32 and a slice at a time."""
    step = max(1, _SLICE // logits_NV.shape[-1])
    slices = zip(logits_NV.split(step), label_N.split(step), strict=True)
    return torch.cat([functional.cross_entropy(logits.float(), label, reduction="none") for logits, label in slices])


def _lengths(rows: Dataset | Sequence[Mapping[str, Any]]) -> np.ndarray:
    if not isinstance(rows, Dataset):
        return np.array([len(row["input_ids"]) for row in rows], dtype=np.int64)
    from hbo.scoring.columns import lengths

    return lengths(rows, "input_ids")
