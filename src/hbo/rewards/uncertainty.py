"""MultiUAT: how unsure the model is on a few dev rows of each dataset.

After Wu, Li, Zhang, Li & Haffari 2021, "Uncertainty-Aware Balancing for Multilingual and Multi-Domain Neural Machine
Translation Training", EMNLP. The model reads the reference (teacher forcing); at each of its T target positions,
a_t = log max_v p_t(v), the log probability of the token it holds most likely, and H_t = −Σ_v p_t(v) log p_t(v). Over
the dev rows of a dataset:

    entropy                 mean of H_t over all target positions of all rows; the default
    eos_entropy             mean over rows of H at the last target
    expected_probability    1 − mean over rows of exp(mean_t a_t)
    sequence_probability    1 − mean over rows of exp(Σ_t a_t); near 1 on long responses
    variance                mean over rows of Var_t(a_t)
    combined                mean over rows of exp(Var_t(a_t) / mean_t a_t)
    dev_loss                mean target-token loss over all positions

Where we depart: the authors average over 10 passes with dropout; we make one pass without it. For models without
dropout (most of today's), both are the same. As theirs, updates come every 1,000 steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn

from hbo.arrays import Floats
from hbo.rewards.passes import Batch, Sets
from hbo.scoring.devices import device_of
from hbo.scoring.head import target_logits, targets_at_once
from hbo.scoring.targets import Targets


class Statistics(NamedTuple):
    """What is kept of each row (P,) once its logits are gone; H and a as above."""

    targets: Floats
    mean_entropy: Floats
    mean_loss: Floats
    mean_a: Floats
    last_entropy: Floats
    sum_a: Floats
    variance_a: Floats


def _over_tokens(targets: Floats, mean: Floats) -> float:
    return float((targets * mean).sum() / targets.sum())


def _combined(rows: Statistics) -> float:
    # A row of which the model is certain has mean 0 and variance 0.
    ratio = np.divide(rows.variance_a, rows.mean_a, out=np.zeros_like(rows.mean_a), where=rows.mean_a != 0)
    return float(np.exp(ratio).mean())


def _on_dev_rows(of_rows: Callable[[Statistics], float]) -> Callable[[nn.Module, Sets], Floats]:
    """The reward that is this of the dev rows of each dataset (K,)."""

    def reward(model: nn.Module, sets: Sets) -> Floats:
        found = sets.each(model, sets.dev_K, statistics, len(Statistics._fields))
        return np.array([of_rows(Statistics(*row_7P)) if row_7P.size else np.nan for row_7P in found])

    return reward


entropy = _on_dev_rows(lambda rows: _over_tokens(rows.targets, rows.mean_entropy))
eos_entropy = _on_dev_rows(lambda rows: float(rows.last_entropy.mean()))
expected_probability = _on_dev_rows(lambda rows: float(1 - np.exp(rows.mean_a).mean()))
sequence_probability = _on_dev_rows(lambda rows: float(1 - np.exp(rows.sum_a).mean()))
variance = _on_dev_rows(lambda rows: float(rows.variance_a.mean()))
combined = _on_dev_rows(_combined)
dev_loss = _on_dev_rows(lambda rows: _over_tokens(rows.targets, rows.mean_loss))


@torch.no_grad()
def statistics(model: nn.Module, batch: Batch) -> Floats:
    """The `Statistics` of each row (7, B), NaN for a row without a target.

    Raises:
        RewardError: The model doesn't return one logit vector per token.
    """
    inner = extract_model_from_parallel(model, keep_torch_compile=False)
    targets = Targets.of(batch, device_of(inner))
    logits_NV = target_logits(inner, targets, use_cache=False)
    entropy, loss, most = _per_target(logits_NV, targets.label_N)
    found = [
        [len(h), h.mean(), c.mean(), a.mean(), h[-1], a.sum(), a.var(correction=0)] if len(h) else [np.nan] * 7
        for h, c, a in zip(*(torch.split(each, targets.counts) for each in (entropy, loss, most)), strict=True)
    ]
    return np.array(found, dtype=np.float64).T


def _per_target(logits_NV: Tensor, label_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Entropy, loss and log probability of the most likely token at every target (N,)."""
    found = []
    step = targets_at_once(logits_NV)
    for logits, label in zip(torch.split(logits_NV, step), torch.split(label_N, step), strict=True):
        log_p = logits.float().log_softmax(-1)
        entropy = -(log_p.exp() * log_p).nan_to_num(0.0).sum(-1)  # a token ruled out (−inf) adds nothing
        found.append((entropy, -log_p.gather(1, label[:, None])[:, 0], log_p.amax(-1)))
    if not found:
        nothing = logits_NV.new_zeros(0)
        return nothing, nothing, nothing
    entropy_N, loss_N, most_N = (torch.cat(parts).double() for parts in zip(*found, strict=True))
    return entropy_N, loss_N, most_N
