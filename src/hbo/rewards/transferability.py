"""MoS's transferability: how alike the datasets look to the model.

After Wu, Vu, Qu & Haffari 2024, "Mixture-of-Skills: Learning to Optimize Data Usage for Fine-Tuning Large Language
Models", EMNLP. e_i is the last hidden state, averaged over the tokens of a row and over rows of dataset i:

    R_i = (1/K) Σ_k cos(e_i, e_k),  k = i included

MoS's other reward, difficulty, is our `perplexity_ratio`; its learning trajectory, a moving average of rewards that
starts at 1, is `actor.ema: 0.9`. Method `mos` looks at 64 rows per dataset, as the authors' code does (8 batches of 8).

Where we depart: rows are those of the probes, so spread evenly over the difficulty groups; padding isn't averaged over.

`mos+` of the HBO paper is one actor over all groups of all datasets, without a hierarchy. Which reward it has isn't
said there: ours is the perplexity ratio of each group, `local_reward: transferability` the other. Its prior is the
dataset prior spread over each dataset's groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn

from hbo.arrays import Floats
from hbo.compat import body_of
from hbo.errors import RewardError
from hbo.rewards.passes import Batch, Sets
from hbo.scoring.devices import device_of
from hbo.scoring.head import target_logits
from hbo.scoring.targets import Targets


def transferability(model: nn.Module, sets: Sets) -> Floats:
    """How alike each set's mean state is to those of all sets (C,)."""
    states = sets.each(model, sets.row_C, mean_states, hidden_size(model))
    missing = np.full(hidden_size(model), np.nan)
    return alikeness(np.stack([state_HP.mean(axis=1) if state_HP.size else missing for state_HP in states]))


@torch.no_grad()
def mean_states(model: nn.Module, batch: Batch) -> Floats:
    """The last hidden state of each row, averaged over its tokens (H, B).

    Raises:
        RewardError: The model has no base model that gives one.
    """
    inner: Any = extract_model_from_parallel(model, keep_torch_compile=False)
    whole = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    seen: list[Tensor] = []

    def keep(base: nn.Module, args: Any, output: Any) -> None:
        if isinstance(state := getattr(output, "last_hidden_state", None), Tensor):
            seen.append(state)

    targets = Targets.of(batch, device_of(inner))
    handle = body_of(whole).register_forward_hook(keep)
    try:
        target_logits(inner, targets, use_cache=False)
    finally:
        handle.remove()
    if not seen:
        raise RewardError(
            f"{type(whole).__name__} shows no last hidden state, so transferability can't be measured; choose another "
            "reward"
        )
    mask_BT1 = targets.inputs["attention_mask"][..., None]
    mean_BH = (seen[-1].float() * mask_BT1).sum(1) / mask_BT1.sum(1)
    return np.asarray(mean_BH.double().cpu().numpy().T)


def hidden_size(model: nn.Module) -> int:
    """Numbers in a hidden state."""
    inner: Any = extract_model_from_parallel(model, keep_torch_compile=False)
    return int(inner.config.get_text_config().hidden_size)


def alikeness(state_CH: Floats) -> Floats:
    """The mean cosine of each state with all (C,); a state that is missing (NaN) has none and is not counted.

    Example:
        >>> alikeness(np.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [0.5, 0.5]
    """
    with np.errstate(invalid="ignore"):
        unit_CH = state_CH / np.linalg.norm(state_CH, axis=1, keepdims=True)
    known = np.isfinite(unit_CH).all(axis=1)
    mean_C = np.full(len(state_CH), np.nan)
    mean_C[known] = (unit_CH[known] @ unit_CH[known].T).mean(axis=1)
    return mean_C
