"""Rewards of a dataset from its mean gradient: MultiDDS, and the norm per batch.

MultiDDS (Wang, Tsvetkov & Neubig 2020, "Balancing Training for Multilingual Neural Machine Translation", ACL), g_i the
gradient on rows of dataset i and d_k that on the dev rows of dataset k, all of the same model:

    stable form (MultiDDS-S)    R_i = (1/K) Σ_k cos(g_i, d_k)                          `gradient_alignment`
    as first published          R_i = cos(g_i, Σ_k d_k(θ'))  with  θ' = θ − 0.001 g_i  `lookahead_alignment`

Both may be negative, and keep their sign. The defaults of method `multidds` are 8 rows per dataset, an update every
1,000 steps, and a floor of 0.01 under every probability, since a negative reward has no fixed point.

Where we depart: a gradient is that of the mean over rows of each row's mean target loss (theirs: over all tokens of a
batch); the K dev gradients are computed once per update, K + K backwards instead of K + K².

Memory: the stable form holds K + 1 gradients of the trainable parameters on their device, the other one a copy of the
parameters and two gradients; with LoRA both are small.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hbo.rewards.examples import PackedExamples
from hbo.rewards.norms.left_as_found import left_as_found
from hbo.scoring.batches import Rows, pack, pad, reader
from hbo.scoring.losses import per_example_loss
from hbo.scoring.processes import Processes

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_LOOKAHEAD = 0.001


class Gradients:
    """Mean gradients of sets of rows.

    Args:
        rows: With `input_ids` and `labels`.
        token_budget: Padded tokens per batch.
        pad_token_id: Any valid token id.
    """

    def __init__(self, rows: Rows | PackedExamples, token_budget: int, pad_token_id: int) -> None:
        self._read = reader(rows)
        self._budget, self._pad = token_budget, pad_token_id

    def of(self, model: nn.Module, number_P: Ints) -> list[Tensor]:
        """One tensor per trainable parameter; to be called inside `left_as_found`, which keeps the trainer's own."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in parameters:
            parameter.grad = None
        length_P = np.array([len(ids) for ids, _ in self._read(number_P)])
        with torch.enable_grad():
            for index_B in pack(length_P, np.arange(len(number_P)), self._budget):
                loss_B = per_example_loss(model, pad(self._read(number_P[index_B]), self._pad))
                (loss_B.nansum() / len(number_P)).backward()  # type: ignore[no-untyped-call]
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        for parameter in parameters:
            parameter.grad = None
        return found


def aligned(
    model: nn.Module, gradients: Gradients, row_K: list[Ints], dev_K: list[Ints], processes: Processes
) -> Floats:
    """MultiDDS-S: the mean cosine of each dataset's gradient with the dev gradients (K,)."""
    cosine_KK = np.zeros((len(row_K), len(dev_K)))
    with left_as_found(model):
        dev = [gradients.of(model, rows) for rows in dev_K]
        for i in range(processes.rank, len(row_K), processes.count):
            own = gradients.of(model, row_K[i])
            cosine_KK[i] = [cosine(own, other) for other in dev]
    mean_K: Floats = processes.total(cosine_KK).mean(axis=1)
    return mean_K


def aligned_after_a_step(
    model: nn.Module, gradients: Gradients, row_K: list[Ints], dev_K: list[Ints], processes: Processes
) -> Floats:
    """MultiDDS as first published: how well a small step along each gradient fits all dev sets after it (K,)."""
    cosine_K = np.zeros(len(row_K))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with left_as_found(model):
        before = [parameter.detach().clone() for parameter in parameters]
        try:
            for i in range(processes.rank, len(row_K), processes.count):
                own = gradients.of(model, row_K[i])
                _move(parameters, before, own)
                dev = gradients.of(model, dev_K[0])
                for rows in dev_K[1:]:
                    torch._foreach_add_(dev, gradients.of(model, rows))
                cosine_K[i] = cosine(own, dev)
                _move(parameters, before)
        finally:
            _move(parameters, before)
    return processes.total(cosine_K)


def batch_norms(
    model: nn.Module, gradients: Gradients, row_K: list[Ints], dev_K: list[Ints], processes: Processes
) -> Floats:
    """The norm of each dataset's mean gradient (K,): the paper's Eq. 7 read as one batch, not row by row."""
    norm_K = np.zeros(len(row_K))
    with left_as_found(model):
        for i in range(processes.rank, len(row_K), processes.count):
            own = gradients.of(model, row_K[i])
            norm_K[i] = _dot(own, own) ** 0.5
    return processes.total(norm_K)


def cosine(one: list[Tensor], other: list[Tensor]) -> float:
    """Of two gradients; NaN if one is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(_dot(one, other) / np.sqrt(np.float64(_dot(one, one)) * _dot(other, other)))


def _dot(one: list[Tensor], other: list[Tensor]) -> float:
    parts = [(a.float() * b.float()).sum(dtype=torch.float64) for a, b in zip(one, other, strict=True)]
    return float(torch.stack(parts).sum())


@torch.no_grad()
def _move(parameters: list[nn.Parameter], before: list[Tensor], gradient: list[Tensor] | None = None) -> None:
    """Sets the parameters to `before`, a small step down `gradient` from there if one is given."""
    for k, parameter in enumerate(parameters):
        parameter.copy_(before[k])
        if gradient is not None:
            parameter.sub_(gradient[k], alpha=_LOOKAHEAD)
