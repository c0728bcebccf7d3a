"""Padding behind a row needs no mask where no token looks ahead, and attention is faster without one."""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from hbo.rewards.targets import Targets, target_logits
from hbo.rewards.untouched import is_whole

_TOLERANCE = 2e-2  # relative, for what a mask changes by rounding, in bf16 too

# Whether a model has been seen to answer the same whatever stands behind a row.
_does_without: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def unmasked(model: nn.Module, targets: Targets) -> Targets:
    """The targets without an attention mask, if the model answers the same without it; else as they are.

    Tried once per model, on the row with the most padding. A sharded model, which all processes would have to call
    alike, is left alone.

    Raises:
        RewardError: The model doesn't return one logit vector per token.
    """
    mask_BT = targets.inputs.get("attention_mask")
    if mask_BT is None or mask_BT.dim() != 2 or bool((mask_BT[:, 1:] > mask_BT[:, :-1]).any()):
        return targets
    padding_B = (mask_BT == 0).sum(1)
    most = int(padding_B.argmax())
    # Without padding always as it is, so that a resumed run, which has to try the model anew, computes the same.
    if not padding_B[most]:
        return targets
    if model not in _does_without:
        if not is_whole(model):
            return targets
        inputs = {name: each[most % len(each)][None] for name, each in targets.inputs.items()}
        _does_without[model] = _answers_the_same(model, inputs)
    return replace(targets, inputs=_without_mask(targets.inputs)) if _does_without[model] else targets


def _without_mask(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: each for name, each in inputs.items() if name != "attention_mask"}


@torch.no_grad()
def _answers_the_same(model: nn.Module, inputs: dict[str, Tensor]) -> bool:
    """Whether neither the mask nor the tokens behind the row matter to what is said at its real tokens."""
    ids_1T, is_real_1T = inputs["input_ids"], inputs["attention_mask"].bool()

    def logits(inputs: dict[str, Tensor]) -> Tensor:
        return target_logits(model, Targets(inputs, is_real_1T, ids_1T[is_real_1T], [int(is_real_1T.sum())]))

    masked, plain = logits(inputs), _without_mask(inputs)
    try:
        without = logits(plain)
    except Exception:  # code from elsewhere may need its mask, and fail without it in any way
        return False
    other = int(ids_1T[0, -1] == 0)  # than the padding token
    # The same computation with other padding: equal to the bit, unless it is looked at.
    blind = torch.equal(without, logits({**plain, "input_ids": torch.where(is_real_1T, ids_1T, other)}))
    return blind and bool((without - masked).abs().amax() <= _TOLERANCE * masked.abs().amax())
