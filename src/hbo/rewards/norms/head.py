"""The head's part of a measurement: losses, their slopes at the hidden states, and the gradient of the head's weight.

All of it a slice of the targets at a time, inside the head's own call; logits become slopes in place. Where the head
is trained, a slice is whole rows, whose norms need no gradient (V, H); only of a row with more targets than H, whose
logits would be larger than that gradient, it is summed up slice by slice.

Letters: B batch, T tokens, N target tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hbo.rewards.norms.outer_products import CHUNK, Outer, Squares, same_type, squared, widened
from hbo.scoring.devices import Autocast
from hbo.scoring.head import Head, targets_at_once
from hbo.scoring.targets import Targets


@dataclass
class HeadPass:
    """Work for `hbo.scoring.head.through_head`."""

    head: Head
    targets: Targets
    own: Mapping[str, nn.Parameter] = field(default_factory=dict)
    """The head's own parameters that are trained: `weight`, `bias`."""
    tied: bool = False
    """Whether its weight is the input embedding as well."""
    hidden: Tensor | None = None
    """What the backward starts from (N, H), and"""
    slope_NH: Tensor | None = None
    """its slopes."""
    loss_N: Tensor | None = None
    _squares: list[Tensor] = field(default_factory=list)
    _at_ids: list[Tensor] = field(default_factory=list)
    _bias: list[Tensor] = field(default_factory=list)
    _long: _LongRow | None = None

    @classmethod
    def of(cls, model: Any, head: Head, targets: Targets, own: Mapping[str, nn.Parameter]) -> HeadPass:
        """That of a model with this head."""
        embedding = getattr(model.get_input_embeddings(), "weight", None)
        return cls(head, targets, own, tied="weight" in own and embedding is head.layer.weight)

    def uses(self, multiple_B: Tensor | None = None) -> Iterator[tuple[nn.Parameter, Squares | Tensor]]:
        """The trained parameters and their uses; those of so many times each row's loss, if it is said how many."""
        if "weight" in self.own:
            square_B, at_ids_BTH = torch.stack(self._squares), torch.stack(self._at_ids) if self.tied else None
            if multiple_B is not None:
                square_B = square_B * multiple_B.square()
                at_ids_BTH = None if at_ids_BTH is None else at_ids_BTH * multiple_B[:, None, None]
            yield self.own["weight"], Squares(square_B, at_ids_BTH)
        if "bias" in self.own:
            bias_BV = torch.stack(self._bias)
            yield self.own["bias"], bias_BV if multiple_B is None else bias_BV * multiple_B[:, None]

    def __call__(self, hidden_NH: Tensor) -> None:
        """Passes all targets through the head."""
        precision = Autocast.now(hidden_NH.device)
        given, label_N = hidden_NH.detach(), self.targets.label_N.to(hidden_NH.device)
        weight_N = self.targets.weights().to(hidden_NH.device)
        slope_NH, loss_N = torch.empty_like(given), torch.empty_like(weight_N)
        for at, rows in self._slices():
            h = given[at].requires_grad_()
            with torch.enable_grad():
                raw = self.head.raw(h)
            slope, loss_N[at] = self._slope(raw, label_N[at], weight_N[at])
            with torch.autocast(precision.device, enabled=False):  # slopes have the types of the forward already
                (slope_NH[at],) = torch.autograd.grad(raw, h, slope)
                if self.own:
                    self._of_parameters(slope, precision.multiplied(h.detach()), rows)
        self.hidden, self.slope_NH, self.loss_N = hidden_NH, slope_NH, loss_N

    def _slices(self) -> Iterator[tuple[slice, range]]:
        """Targets at once, and the rows that they are all of; whole rows only where the head is trained."""
        most = targets_at_once(words=self.head.layer.out_features, device=self.targets.device)
        counts = self.targets.counts
        if not self.own:
            for start in range(0, sum(counts), most):
                yield slice(start, min(start + most, sum(counts))), range(0)
            return
        row = start = 0
        while row < len(counts):
            stop, last = start + counts[row], row + 1
            if counts[row] > max(most, self.head.layer.in_features):
                # A long row goes by itself, in parts: its gradient (V, H) is smaller than its logits would be.
                for at in range(start, stop, most):
                    yield slice(at, min(at + most, stop)), range(row, last)
            else:
                while last < len(counts) and stop + counts[last] - start <= most:
                    stop, last = stop + counts[last], last + 1
                yield slice(start, stop), range(row, last)
            row, start = last, stop

    def _slope(self, raw_NV: Tensor, label_N: Tensor, weight_N: Tensor) -> tuple[Tensor, Tensor]:
        """The slopes of the layer's output, and each target's loss."""
        if self.head.factor == 1.0 and not self.head.cap:
            logits = raw_NV.detach()  # they are the layer's own output, and no second copy is made
            return logits, slopes_in_place(logits, label_N, weight_N)
        again = raw_NV.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.head.after(again)
        slope = logits.detach().clone()
        loss_N = slopes_in_place(slope, label_N, weight_N)
        return torch.autograd.grad(logits, again, slope)[0], loss_N

    def _of_parameters(self, slope_NV: Tensor, hidden_NH: Tensor, rows: range) -> None:
        counts = [self.targets.counts[row] for row in rows]
        if sum(counts) > len(slope_NV):
            self._of_part(slope_NV, hidden_NH, rows[0])
            return
        for row, slope, hidden in zip(rows, slope_NV.split(counts), hidden_NH.split(counts), strict=True):
            self._squares.append(Outer(slope[None], hidden[None]).square_norms()[0])
            if self.tied:
                self._at_ids.append(self._at_own_ids(slope, hidden, row))
            if "bias" in self.own:
                self._bias.append(slope.sum(0, dtype=torch.float32))

    def _of_part(self, slope_NV: Tensor, hidden_NH: Tensor, row: int) -> None:
        """Adds a slice of a long row's targets to what is known of that row."""
        self._long = self._long or _LongRow(self.head.layer, slope_NV.device, self.targets.counts[row])
        at_ids_TH = self._at_own_ids(slope_NV, hidden_NH, row) if self.tied else None
        if self._long.is_over(slope_NV, hidden_NH, at_ids_TH):
            self._squares.append(squared(self._long.sum_VH[None])[0])
            if self._long.at_ids_TH is not None:
                self._at_ids.append(self._long.at_ids_TH)
            if "bias" in self.own:
                self._bias.append(self._long.bias_V)
            self._long = None

    def _at_own_ids(self, slope_NV: Tensor, hidden_NH: Tensor, row: int) -> Tensor:
        own = slope_NV.index_select(1, self.targets.inputs["input_ids"][row].to(slope_NV.device))
        return widened(own).mT @ widened(hidden_NH)


class _LongRow:
    """The head's gradient for one row, summed up over slices of its targets."""

    def __init__(self, layer: nn.Linear, device: torch.device, count: int) -> None:
        self.sum_VH = torch.zeros(layer.out_features, layer.in_features, device=device)
        self.bias_V = torch.zeros(layer.out_features, device=device)
        self.at_ids_TH: Tensor | None = None
        self._left = count

    def is_over(self, slope_NV: Tensor, hidden_NH: Tensor, at_ids_TH: Tensor | None) -> bool:
        """Takes in a slice; whether it was the last."""
        left, right = same_type(slope_NV, hidden_NH)
        step = max(1, CHUNK // right.shape[1])
        for at in range(0, len(self.sum_VH), step):
            self.sum_VH[at : at + step] += left[:, at : at + step].mT @ right
        self.bias_V += slope_NV.sum(0, dtype=torch.float32)
        if at_ids_TH is not None:
            self.at_ids_TH = at_ids_TH if self.at_ids_TH is None else self.at_ids_TH + at_ids_TH
        self._left -= len(slope_NV)
        return self._left == 0


def slopes_in_place(logits_NV: Tensor, label_N: Tensor, weight_N: Tensor) -> Tensor:
    """Each target's loss (N,) in nats; the logits become the slopes of the weighted sum of the losses.

    The softmax runs in fp32, a slice at a time.
    """
    loss_N = torch.empty(len(logits_NV), device=logits_NV.device)
    step = targets_at_once(logits_NV)
    for at in range(0, len(logits_NV), step):
        part, label, weight = logits_NV[at : at + step], label_N[at : at + step, None], weight_N[at : at + step, None]
        log_p = part.float().log_softmax(-1)
        loss_N[at : at + step] = -log_p.gather(1, label)[:, 0]
        part.copy_(log_p.exp_().mul_(weight).scatter_add_(1, label, -weight))
    return loss_N
