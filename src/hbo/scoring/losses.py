"""A batch → the loss of each of its rows: the one implementation, used to score difficulty and as reward.

A row's loss is the mean over its target tokens, in nats. Letters: B rows of a batch, T tokens of a padded row,
N rows of a dataset (or targets of a batch), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from hbo.errors import RewardError
from hbo.progress import Track, silent
from hbo.scoring.batches import TokenRow, TokenRows, lengths, pack, pad, reader
from hbo.scoring.devices import device_of, is_whole
from hbo.scoring.head import head_of, target_logits, targets_at_once, through_head, token_losses
from hbo.scoring.room import TOKEN_BUDGET, Room
from hbo.scoring.targets import Targets


def per_example_loss(model: nn.Module, batch: Mapping[str, Tensor], cache: Cache | None = None) -> Tensor:
    """Each row's mean target-token loss (B,) in nats, in fp32 and differentiable; NaN for a row without a target.

    The model stays in the mode it is in (train or eval), and runs under the caller's autocast if there is one.

    Args:
        model: A causal language model, also wrapped by PEFT, accelerate or DistributedDataParallel.
        batch: `input_ids`, `attention_mask` and `labels`, each (B, T). Labels aren't shifted (the token at t is
            predicted at t − 1) and are −100 where not a target.
        cache: Keys and values of S tokens before every row; `attention_mask` is then (B, S + T). The model adds to it.

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
    targets = Targets.of(batch, device_of(model))
    if _is_pointless(model, targets):
        return torch.full((targets.shape[0],), torch.nan, device=targets.device)
    logits_NV = target_logits(model, targets, **_past(cache))
    return targets.means(token_losses(logits_NV, targets.label_N))


class Scorer:
    """The losses of batches under one model, without gradients; logits are in memory a slice at a time."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        inner = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
        self._head = None if inner is None else head_of(inner)
        self._is_checked = False

    @torch.no_grad()
    def losses(self, batch: Mapping[str, Tensor], cache: Cache | None = None) -> Tensor:
        """As `per_example_loss`."""
        if self._head is None:
            return per_example_loss(self._model, batch, cache)
        head, parts = self._head, list[Tensor]()
        targets = Targets.of(batch, device_of(self._model))
        if _is_pointless(self._model, targets):
            return torch.full((targets.shape[0],), torch.nan, device=targets.device)
        step = targets_at_once(words=head.layer.out_features, device=targets.device)

        def work(hidden_NH: Tensor) -> None:
            slices = zip(hidden_NH.split(step), targets.label_N.split(step), strict=True)
            parts.extend(token_losses(head.logits(hidden), label) for hidden, label in slices)

        try:
            is_known = through_head(self._model, head, targets, work, **_past(cache))
            self._is_checked = self._is_checked or bool(is_known)  # asks the device once, not at every batch
        except RewardError:
            is_known = None
        if not self._is_checked or is_known is None:
            # The head isn't what it is taken for: from now on logits come from the model itself.
            if cache is not None:
                cache.crop(int(batch["attention_mask"].shape[1]) - targets.shape[1])
            self._head = None
            return per_example_loss(self._model, batch, cache)
        return targets.means(torch.cat(parts))


def _is_pointless(model: nn.Module, targets: Targets) -> bool:
    """Whether no row has a target, and no other process waits at the layers of a model in parts."""
    return not sum(targets.counts) and is_whole(model)


def _past(cache: Cache | None) -> dict[str, Any]:
    return {"use_cache": False} if cache is None else {"past_key_values": cache, "use_cache": True}


def row_losses(
    model: nn.Module,
    rows: TokenRows,
    *,
    pad_token_id: int,
    token_budget: int | None = None,
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
        token_budget: Padded tokens per batch, a longer row being a batch of its own; None: what suits the device.
        track: Hears of each row.
        phase: The name it hears them under.
    """
    read = reader(rows)
    loss_N = np.full(len(rows), np.nan)
    length_N = lengths(rows)
    scorer, room = Scorer(model), Room.of(model, token_budget)
    with track(phase, len(rows)) as advance, evaluating(model):
        for rows_B in pack(length_N, np.arange(len(rows)), room.tokens or TOKEN_BUDGET):
            for part_B, loss_B in room.tried(rows_B, lambda part_B: scorer.losses(pad(read(part_B), pad_token_id))):
                loss_N[part_B] = loss_B.cpu().double().numpy()
            advance(len(rows_B))
    return loss_N


def batch_losses(model: nn.Module, rows: Sequence[TokenRow], pad_token_id: int) -> np.ndarray:
    """The losses (B,) of these rows as one batch, without gradients, in fp64."""
    with torch.no_grad():
        loss_B: np.ndarray = per_example_loss(model, pad(rows, pad_token_id)).cpu().double().numpy()
    return loss_B


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and each of its submodules in its former mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode  # not .train(mode), which would reach into the children
