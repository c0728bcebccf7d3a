"""The target tokens of a batch: which they are, and from which position each is predicted.

Worked out on the host, where batches are made, and sent to the device without waiting for it.
Letters: B batch, T tokens, N target tokens of the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hbo.data.tokens import predicts_target

_INPUTS = ("input_ids", "attention_mask", "position_ids", "token_type_ids")


@dataclass(frozen=True)
class Targets:
    """What a batch asks of the model: the inputs, and where each target token is predicted from."""

    inputs: dict[str, Tensor]
    """What the model is called with."""
    shape: tuple[int, int]
    """B and T."""
    index_N: Tensor
    """The positions, of the B · T of the batch, whose logits predict a target; row after row."""
    label_N: Tensor
    """The targets."""
    row_N: Tensor
    """The row of each."""
    counts: list[int]
    """Targets of each row."""

    @classmethod
    def of(cls, batch: Mapping[str, Tensor], device: torch.device) -> Targets:
        """The targets of a padded batch.

        A target whose preceding position is padding isn't one: nothing real predicts it. So a row has the same
        targets whichever side it is padded on.

        Args:
            batch: `input_ids`, `attention_mask` and `labels`, each (B, T). Labels aren't shifted (the token at t is
                predicted at t − 1) and are −100 where not a target. The mask may be wider, by tokens before the rows.
            device: Where the model is.
        """
        labels_BT = batch["labels"].cpu()
        before_BT = torch.zeros_like(labels_BT, dtype=torch.bool)  # True where the logits predict a target
        before_BT[:, :-1] = predicts_target(labels_BT)
        mask = batch.get("attention_mask")
        if mask is not None and mask.dim() == 2:
            before_BT &= mask.cpu()[:, -labels_BT.shape[1] :].bool()
        index_N = before_BT.flatten().nonzero()[:, 0]
        row_N, label_N = before_BT.nonzero()[:, 0], labels_BT.roll(-1, dims=1).flatten()[index_N]
        inputs = {name: batch[name].to(device, non_blocking=True) for name in _INPUTS if batch.get(name) is not None}
        index_N, label_N, row_N = (each.to(device, non_blocking=True) for each in (index_N, label_N, row_N))
        return cls(inputs, (len(labels_BT), labels_BT.shape[1]), index_N, label_N, row_N, before_BT.sum(1).tolist())

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.index_N.device

    def at(self, hidden_BTX: Tensor) -> Tensor:
        """The entries (N, …) of a tensor (B, T, …) from which targets are predicted; of more tokens the last T."""
        B, T = self.shape
        flat = hidden_BTX[:, -T:].reshape(B * T, *hidden_BTX.shape[2:])  # prompt tuning puts tokens before every row
        return flat.index_select(0, self.index_N.to(hidden_BTX.device))

    def sums(self, value_N: Tensor) -> Tensor:
        """Sums (B,) over the targets of each row, in the same order every time."""
        is_of_BN = torch.arange(self.shape[0], device=value_N.device)[:, None] == self.row_N.to(value_N.device)
        return torch.where(is_of_BN, value_N, 0).sum(1)

    def means(self, value_N: Tensor) -> Tensor:
        """Means (B,) over the targets of each row; NaN for a row without one."""
        count_B = torch.tensor(self.counts, dtype=value_N.dtype).to(value_N.device, non_blocking=True)
        return (self.sums(value_N) / count_B).to(self.device)

    def weights(self) -> Tensor:
        """One over the number of targets of its row, for each target (N,)."""
        weight_B = torch.tensor([1 / count if count else 0.0 for count in self.counts])
        return weight_B.to(self.device, non_blocking=True)[self.row_N]
