"""The last layer's MLP is run for target tokens only: behind it nothing but the head reads a token."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from hbo.rewards.rules import alike, conv1d, linear, rule_for
from hbo.rewards.targets import HeadOnTargets, Targets, target_logits
from hbo.rewards.untouched import is_whole

_WORTHWHILE = 0.25  # of a batch's tokens that are spared

# Whether a model has been seen to say the same at its targets when only these pass its last MLP.
_does_without: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def last_mlp(model: nn.Module, targets: Targets) -> nn.Module | None:
    """The MLP which only this batch's targets need to pass; None if the model has none, or reads the others' too.

    Tried once per model, on the row with the most tokens that aren't targets and stand before one. A sharded model,
    which all processes would have to call alike, is left alone.

    Raises:
        RewardError: The model doesn't return one logit vector per token.
    """
    # Judged by the batch alone, so that a resumed run, which has to try the model anew, computes the same to the bit.
    before_BT = targets.before_BT
    spared_B = (~before_BT & (before_BT.flip(1).cumsum(1).flip(1) > 0)).sum(1)  # that stand before a target
    if before_BT.numel() - len(targets.label_N) < _WORTHWHILE * before_BT.numel() or not spared_B.any():
        return None
    mlp = _find(model)
    if mlp is None:
        return None
    if model not in _does_without:
        if not is_whole(model):
            return None
        _does_without[model] = _answers_the_same(model, mlp, targets.row(int(spared_B.argmax())))
    return mlp if _does_without[model] else None


def _find(model: nn.Module) -> nn.Module | None:
    """The `mlp` of the last layer, made of layers whose rules know rows that have targets only."""
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module)]
    mlp = getattr(max(stacks, key=len)[-1], "mlp", None) if stacks else None
    if not isinstance(mlp, nn.Module):
        return None
    owners = [m for m in mlp.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
    return mlp if all(rule_for(layer) in (linear, conv1d) for layer in owners) else None


@torch.no_grad()
def _answers_the_same(model: nn.Module, mlp: nn.Module, row: Targets) -> bool:
    def logits(mlp: nn.Module | None, rest: float = 0.0) -> Tensor:
        with torch.autocast(row.before_BT.device.type, enabled=False), HeadOnTargets(model, row.before_BT, mlp, rest):
            return target_logits(model, row)

    try:
        without, other = logits(mlp), logits(mlp, rest=1.0)
    except Exception:  # an MLP that wants whole rows, or gives more than a tensor, may fail in any way
        return False
    # Equal to the bit, unless what stands for the other tokens is looked at.
    return torch.equal(without, other) and alike(without, logits(None))
