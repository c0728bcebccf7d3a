"""Rewards on a trainer's own loss, as it measures them and by plain autograd."""

import random

import numpy as np
import torch
from datasets import Dataset
from tiny_training import WORDS

from hbo.training.balancing import parts_of

ALL_ROWS = {"probes": 64, "probe_pool": 64}
"""Settings with which every row of a small mixture is looked at."""


def words_of(words, longest):
    return " " + " ".join(words.choices(WORDS, k=words.randint(1, longest)))


def preferences(sizes=(21, 10), levels=2, seed=0):
    words = random.Random(seed)
    rows = [
        {
            "prompt": f"{'ab'[k]} {i}",
            "chosen": words_of(words, 8),
            "rejected": words_of(words, 5),
            "hbo_dataset": "ab"[k],
            "hbo_level": i % levels,
        }
        for k, size in enumerate(sizes)
        for i in range(size)
    ]
    return Dataset.from_list(rows)


def shaken(model, seed=1):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def norm_by_autograd(model, loss):
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat([gradient.double().flatten() for gradient in gradients if gradient is not None]).norm().item()


def ratio_of(callback):
    """Now and start → the local reward that the callback measures."""
    ratios = {"loss_ratio": lambda now, start: now / start, "perplexity_ratio": lambda now, start: np.exp(now - start)}
    return ratios[callback.config.local_reward]


def measured_and_expected(trainer, callback, loss_of):
    """Rewards of both levels at step 2, and the same by plain autograd, one probe at a time.

    `loss_of(number)` is the loss of a row of the trainer's under its model as it stands.
    """
    groups, probe = parts_of(trainer, callback.config, 0)
    ratio = ratio_of(callback)
    trainer.model.eval()
    start = {row: loss_of(row).item() for row in range(len(trainer.train_dataset))}
    probe.measure_reference(trainer.model)
    shaken(trainer.model)
    rewards = probe.measure(trainer.model, 2)
    shape = groups.sizes_KL.shape
    norm_KL, ratio_KL = np.zeros(shape), np.zeros(shape)
    for k in range(shape[0]):
        for j in range(shape[1]):
            rows = groups.rows(k, j).tolist()  # the pool is larger than a group, and so are the probes
            losses = [loss_of(row) for row in rows]
            norm_KL[k, j] = np.mean([norm_by_autograd(trainer.model, loss) for loss in losses])
            ratio_KL[k, j] = np.mean([ratio(loss.item(), start[row]) for loss, row in zip(losses, rows, strict=True)])
    share_KL = groups.sizes_KL / groups.sizes_KL.sum(axis=1, keepdims=True)
    assert rewards.examples == len(groups.order_N)
    return (rewards.global_K, rewards.local_KL), ((share_KL * norm_KL).sum(axis=1), ratio_KL)
