"""The training loss of each dataset and group, read off the forward pass that trains anyway.

Two hooks look at the model's inputs and outputs; no forward is added and no tensor of the step is changed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from hbo.core.groups import Groups

Ints = NDArray[np.int64]


class Meter:
    """Sums of token losses per group (K·L,), since the last reading.

    A step's rows are told to it by `expect`, batch by batch, in the order in which this process will see them.

    Args:
        groups: Groups of the rows.
    """

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.sum_C = np.zeros(groups.sizes_KL.size)
        self.tokens_C = np.zeros(groups.sizes_KL.size)
        self._expected: list[Ints] = []
        self._handles: list[RemovableHandle] = []

    def attach(self, model: nn.Module) -> None:
        """Starts listening to `model`; a second call moves to another model."""
        self.detach()
        self._handles = [model.register_forward_hook(self._after, with_kwargs=True)]

    def detach(self) -> None:
        """Stops listening."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def expect(self, batches: list[Ints]) -> None:
        """The rows of the coming training batches of this process."""
        self._expected = list(batches)

    def read(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums of token losses and numbers of target tokens per group (K, L) since the last call; starts anew."""
        shape = self.groups.sizes_KL.shape
        found = self.sum_C.reshape(shape), self.tokens_C.reshape(shape)
        self.sum_C, self.tokens_C = np.zeros_like(self.sum_C), np.zeros_like(self.tokens_C)
        return found

    def _after(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not model.training or not self._expected:
            return
        with torch.no_grad():
            losses = _token_losses(kwargs, output)
        if losses is None:  # without labels it's not the batch's own pass
            return
        rows = self._expected[0]
        if losses[0].shape[0] == len(rows):
            cells = self.groups.cell_N[rows]
            values = [value.sum(dim=1) for value in losses]
        else:
            found = self._flattened(rows, losses[0].shape)
            if found is None:
                return
            cells = found
            values = [value[0, : len(cells)] for value in losses]
        self._expected.pop(0)
        loss_X, tokens_X = (value.double().cpu().numpy() for value in values)
        np.add.at(self.sum_C, cells, loss_X)
        np.add.at(self.tokens_C, cells, tokens_X)

    def _flattened(self, rows: Ints, shape: torch.Size) -> Ints | None:
        """The group of each token of a batch whose rows were put one behind the other, without padding (1, T).

        None when it is another kind of batch (rows in pairs, say), whose tokens can't be told apart.
        """
        length_N = self.groups.length_N
        # The first token of the first row is predicted from nothing.
        if length_N is None or shape[0] != 1 or shape[1] < length_N[rows].sum() - 1:
            return None
        cells: Ints = np.repeat(self.groups.cell_N[rows], length_N[rows])[1:]
        return cells


def _token_losses(kwargs: dict[str, Any], output: Any) -> tuple[Tensor, Tensor] | None:
    """Losses (B, T) and target mask (B, T) of a batch, from TRL's per-token output or from plain logits."""
    log_probs = getattr(output, "log_probs", None)
    if log_probs is not None:
        return -log_probs.detach(), output.label_mask
    labels, logits = kwargs.get("labels"), getattr(output, "logits", None)
    if labels is None or logits is None or logits.shape[:2] != labels.shape:
        return None
    mask = labels[:, 1:] != -100
    loss = torch.zeros(mask.shape, device=logits.device)
    loss[mask] = functional.cross_entropy(logits[:, :-1][mask].float(), labels[:, 1:][mask], reduction="none")
    return loss, mask
