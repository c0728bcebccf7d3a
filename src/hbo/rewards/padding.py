"""Padding behind a row needs no mask where no token looks ahead, and attention is faster without one."""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import nn

from hbo.rewards.targets import Targets, target_logits

_TOLERANCE = {False: 1e-4, True: 2e-2}  # relative; True: in bf16 or fp16, where rounding alone is that large

# Whether a model's tokens have been seen to look ahead, at padding too.
_looks_ahead: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def unmasked(model: nn.Module, targets: Targets) -> Targets:
    """The targets without an attention mask, if the model answers the same without it; else as they are.

    Tried once per model, on the row with the most padding. A model that several processes share has to be called by
    all of them alike, and is left alone.

    Raises:
        RewardError: The model doesn't return one logit vector per token.
    """
    mask_BT = targets.inputs.get("attention_mask")
    if mask_BT is None or mask_BT.dim() != 2 or bool((mask_BT[:, 1:] > mask_BT[:, :-1]).any()):
        return targets
    plain = replace(targets, inputs={name: each for name, each in targets.inputs.items() if name != "attention_mask"})
    if model not in _looks_ahead:
        if not all(type(parameter) is nn.Parameter for parameter in model.parameters()):
            return targets
        padding_B = (mask_BT == 0).sum(1) * (torch.tensor(targets.counts, device=mask_BT.device) > 0)
        most = int(padding_B.argmax())
        if not padding_B[most]:
            return targets
        row = plain.row(most)
        masked = replace(row, inputs={**row.inputs, "attention_mask": mask_BT[most : most + 1]})
        logits, expected = target_logits(model, row), target_logits(model, masked)
        tolerance = _TOLERANCE[logits.dtype.itemsize < 4 or torch.is_autocast_enabled(logits.device.type)]
        _looks_ahead[model] = bool((logits - expected).abs().amax() > tolerance * expected.abs().amax())
    return targets if _looks_ahead[model] else plain
