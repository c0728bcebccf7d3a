"""The head's part of a measurement: losses, their slopes at the hidden states, and the gradient of the head's weight.

All of it a slice of the targets at a time, inside the head's own call; logits become slopes in place.

Letters: B batch, T tokens, N target tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hbo.rewards.norms.outer_products import Outer, widened
from hbo.rewards.norms.uses import HeadUse
from hbo.scoring.head import Head, targets_at_once
from hbo.scoring.precision import Autocast
from hbo.scoring.targets import Targets


@dataclass
class HeadPass:
    """Work for `hbo.scoring.head.through_head`.

    Attributes:
        head: The model's head.
        targets: Of the batch.
        trained: Which of the head's own parameters are trained: `weight`, `bias`.
        tied: Whether its weight is the input embedding as well.
    """

    head: Head
    targets: Targets
    trained: frozenset[str] = frozenset()
    tied: bool = False
    hidden: Tensor | None = None
    """What the backward starts from (N, H), and"""
    slope_NH: Tensor | None = None
    """its slopes."""
    loss_N: Tensor | None = None
    weight_use: HeadUse | None = None
    bias_BV: Tensor | None = None
    _squares: list[Tensor] = field(default_factory=list)
    _at_ids: list[Tensor] = field(default_factory=list)
    _bias: list[Tensor] = field(default_factory=list)

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
            with torch.autocast(precision.device, enabled=False):
                (slope_NH[at],) = torch.autograd.grad(raw, h, slope)
                if self.trained:
                    self._of_parameters(slope, precision.multiplied(h.detach()), rows)
        self.hidden, self.slope_NH, self.loss_N = hidden_NH, slope_NH, loss_N
        if "weight" in self.trained:
            self.weight_use = HeadUse(torch.stack(self._squares), torch.stack(self._at_ids) if self.tied else None)
        if "bias" in self.trained:
            self.bias_BV = torch.stack(self._bias)

    def _slices(self) -> Iterator[tuple[slice, range]]:
        """Targets at once, and the rows that they are all of; whole rows only where the head is trained."""
        most = targets_at_once(words=self.head.layer.out_features, device=self.targets.device)
        counts = self.targets.counts
        if not self.trained:
            for start in range(0, sum(counts), most):
                yield slice(start, min(start + most, sum(counts))), range(0)
            return
        row = start = 0
        while row < len(counts):
            stop, last = start + counts[row], row + 1
            while last < len(counts) and stop + counts[last] - start <= most:
                stop, last = stop + counts[last], last + 1
            yield slice(start, stop), range(row, last)
            row, start = last, stop

    def _slope(self, raw_NV: Tensor, label_N: Tensor, weight_N: Tensor) -> tuple[Tensor, Tensor]:
        """The slopes of the layer's output, and each target's loss."""
        if self.head.factor == 1.0 and not self.head.cap:
            logits = raw_NV.detach()
            return logits, slopes_in_place(logits, label_N, weight_N)
        again = raw_NV.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.head.after(again)
        slope = logits.detach().clone()
        loss_N = slopes_in_place(slope, label_N, weight_N)
        return torch.autograd.grad(logits, again, slope)[0], loss_N

    def _of_parameters(self, slope_NV: Tensor, hidden_NH: Tensor, rows: range) -> None:
        counts = [self.targets.counts[row] for row in rows]
        for row, slope, hidden in zip(rows, slope_NV.split(counts), hidden_NH.split(counts), strict=True):
            self._squares.append(Outer(slope[None], hidden[None]).square_norms()[0])
            if self.tied:
                own = slope.index_select(1, self.targets.inputs["input_ids"][row].to(slope.device))
                self._at_ids.append(widened(own).mT @ widened(hidden))
            if "bias" in self.trained:
                self._bias.append(slope.sum(0, dtype=torch.float32))


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


def tied_to(model: nn.Module, head: Head) -> bool:
    """Whether the head's weight is the weight of the input embedding too."""
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    return getattr(embedding, "weight", None) is head.layer.weight
