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
from torch import Tensor, nn

from hbo.arrays import Floats, Ints
from hbo.rewards.norms.left_as_found import left_as_found
from hbo.rewards.passes import Sets
from hbo.scoring.batches import pack, pad, reader
from hbo.scoring.devices import device_of
from hbo.scoring.losses import per_example_loss
from hbo.scoring.room import tokens_on

_LOOKAHEAD = 0.001


def aligned(model: nn.Module, sets: Sets) -> Floats:
    """MultiDDS-S: the mean cosine of each dataset's gradient with the dev gradients that there are (K,)."""
    cosine_KK = np.zeros((len(sets.row_C), len(sets.dev_K)))
    with left_as_found(model):
        dev = [mean_gradient(model, sets, rows) for rows in sets.dev_K]
        for i in own_share(sets):
            own = mean_gradient(model, sets, sets.row_C[i])
            cosine_KK[i] = [cosine(own, other) for other in dev]
    cosine_KK = sets.passes.processes.total(cosine_KK)
    has_gradient_K = np.isfinite(cosine_KK).any(axis=0)
    if not has_gradient_K.any():
        return np.full(len(cosine_KK), np.nan)
    mean_K: Floats = cosine_KK[:, has_gradient_K].mean(axis=1)
    return mean_K


def aligned_after_a_step(model: nn.Module, sets: Sets) -> Floats:
    """MultiDDS as first published: how well a small step along each gradient fits all dev sets after it (K,)."""
    cosine_K = np.zeros(len(sets.row_C))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with left_as_found(model):
        before = [parameter.detach().clone() for parameter in parameters]
        try:
            for i in own_share(sets):
                own = mean_gradient(model, sets, sets.row_C[i])
                _move(parameters, before, own)
                dev = mean_gradient(model, sets, sets.dev_K[0])
                for rows in sets.dev_K[1:]:
                    torch._foreach_add_(dev, mean_gradient(model, sets, rows))
                cosine_K[i] = cosine(own, dev)
                _move(parameters, before)
        finally:
            _move(parameters, before)
    return sets.passes.processes.total(cosine_K)


def batch_norms(model: nn.Module, sets: Sets) -> Floats:
    """The norm of each set's mean gradient (C,): the paper's Eq. 7 read as one batch, not row by row."""
    norm_C = np.zeros(len(sets.row_C))
    with left_as_found(model):
        for i in own_share(sets):
            own = mean_gradient(model, sets, sets.row_C[i])
            norm_C[i] = dot(own, own) ** 0.5
    return sets.passes.processes.total(norm_C)


def mean_gradient(model: nn.Module, sets: Sets, number_P: Ints) -> list[Tensor]:
    """The gradient of the mean loss of these rows, one tensor per trainable parameter.

    To be called inside `left_as_found`, which keeps the trainer's own gradients.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.grad = None
    read, tokens = reader(sets.passes.rows), sets.gradient_tokens or tokens_on(device_of(model))
    length_P = np.array([len(ids) for ids, _ in read(number_P)])
    with torch.enable_grad():
        for index_B in pack(length_P, np.arange(len(number_P)), tokens):
            batch = pad(read(number_P[index_B]), sets.passes.pad_token_id)
            loss_B = per_example_loss(model, batch)
            if loss_B.requires_grad:  # no row of the batch may have a target
                (loss_B.nansum() / len(number_P)).backward()  # type: ignore[no-untyped-call]
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    return found


def own_share(sets: Sets) -> range:
    """The choices that this process measures."""
    return range(sets.passes.processes.rank, len(sets.row_C), sets.passes.processes.count)


def cosine(one: list[Tensor], other: list[Tensor]) -> float:
    """Of two gradients; NaN if one is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(dot(one, other) / np.sqrt(np.float64(dot(one, one)) * dot(other, other)))


def dot(one: list[Tensor], other: list[Tensor]) -> float:
    """The inner product of two gradients."""
    parts = [(a.float() * b.float()).sum(dtype=torch.float64) for a, b in zip(one, other, strict=True)]
    return float(torch.stack(parts).sum())


@torch.no_grad()
def _move(parameters: list[nn.Parameter], before: list[Tensor], gradient: list[Tensor] | None = None) -> None:
    """Sets the parameters to `before`, a small step down `gradient` from there if one is given."""
    for k, parameter in enumerate(parameters):
        parameter.copy_(before[k])
        if gradient is not None:
            parameter.sub_(gradient[k], alpha=_LOOKAHEAD)
