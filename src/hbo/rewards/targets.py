"""The target tokens of a batch: their logits, each row's mean loss, and the slope of that loss.

Letters: B batch, T tokens, N target tokens of the whole batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from hbo.errors import RewardError
from hbo.scoring.losses import targets_at_once

_INPUTS = ("input_ids", "attention_mask", "position_ids", "token_type_ids")


@dataclass(frozen=True)
class Targets:
    """What a batch asks of the model: the inputs, and where each target token is predicted from."""

    inputs: dict[str, Tensor]
    before_BT: Tensor
    """True at the position whose logits predict a target."""
    label_N: Tensor
    counts: list[int]
    """Targets of each row."""

    @classmethod
    def of(cls, batch: Mapping[str, Tensor], device: torch.device) -> Targets:
        """The targets of a padded batch, in the order of rows and positions.

        A target whose preceding position is padding isn't one: nothing real predicts it. So a row has the same
        targets whichever side it is padded on.

        Raises:
            Nothing.
        """
        inputs = {name: batch[name].to(device) for name in _INPUTS if name in batch}
        labels = batch["labels"].to(device)
        before = torch.zeros_like(labels, dtype=torch.bool)
        before[:, :-1] = labels[:, 1:] != -100
        if "attention_mask" in inputs:
            before &= inputs["attention_mask"].bool()
        following = labels.roll(-1, dims=1)
        return cls(inputs, before, following[before], before.sum(1).tolist())

    def row(self, r: int) -> Targets:
        """The r-th row alone, without the padding at its end.

        Raises:
            Nothing.
        """
        mask = self.inputs.get("attention_mask")
        stop = self.before_BT.shape[1] if mask is None else int(mask[r].nonzero().amax()) + 1
        inputs = {name: tensor[r % tensor.shape[0]][None, :stop] for name, tensor in self.inputs.items()}
        first = sum(self.counts[:r])
        return Targets(
            inputs, self.before_BT[r : r + 1, :stop], self.label_N[first : first + self.counts[r]], [self.counts[r]]
        )


class HeadOnTargets:
    """While entered, the model's head sees the N target positions only, whatever the model's forward looks like.

    So does its last MLP, if that is given; all other positions have `rest` for what it would have said of them.
    """

    def __init__(
        self, model: nn.Module, before_BT: Tensor, last_mlp: nn.Module | None = None, rest: float = 0.0
    ) -> None:
        self.head: nn.Module | None = model.get_output_embeddings()  # type: ignore[operator]
        self.before_BT = before_BT
        self.active = False
        """The head, or the last MLP, is running on target positions at this moment."""
        self._last_mlp, self._rest = last_mlp, rest
        self._handles: list[Any] = []

    def __enter__(self) -> HeadOnTargets:
        if self.head is not None:
            self._handles.append(self.head.register_forward_pre_hook(self._select))
            self._handles.append(self.head.register_forward_hook(self._leave))
        if self._last_mlp is not None:
            self._handles.append(self._last_mlp.register_forward_pre_hook(self._select))
            self._handles.append(self._last_mlp.register_forward_hook(self._spread, prepend=True))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    def _select(self, head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not args or args[0].shape[:2] != self.before_BT.shape:
            return None
        self.active = True
        return (args[0][self.before_BT], *args[1:])

    def _leave(self, head: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.active = False

    def _spread(self, mlp: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if not self.active:
            return None
        self.active = False
        everywhere = output.new_full((*self.before_BT.shape, *output.shape[1:]), self._rest)
        everywhere[self.before_BT] = output
        return everywhere


def target_logits(model: nn.Module, targets: Targets) -> Tensor:
    """The logits (N, V) that predict the targets.

    Raises:
        RewardError: The model doesn't return one logit vector per position.
    """
    logits: Tensor = model(**targets.inputs, use_cache=False).logits
    if logits.shape[:-1] == targets.before_BT.shape:
        logits = logits[targets.before_BT]
    if logits.shape[:-1] != targets.label_N.shape:
        raise RewardError(
            f"{type(model).__name__} returns logits of shape {tuple(logits.shape)} for a batch of shape "
            f"{tuple(targets.before_BT.shape)}; gradient norms need a causal language model with one logit vector "
            "per token"
        )
    return logits


def losses_and_slope(logits_NV: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Each row's mean target loss (B,), NaN without a target, and the slope (N, V) of the sum of these means.

    The softmax runs in fp32, a slice at a time.

    Raises:
        Nothing.
    """
    count_B = torch.tensor(targets.counts, device=logits_NV.device)
    weight_N = count_B.float().reciprocal().repeat_interleave(count_B)
    loss_N = torch.empty_like(weight_N)
    slope_NV = torch.empty_like(logits_NV)
    with torch.no_grad():
        step = targets_at_once(logits_NV)
        parts = (tensor.split(step) for tensor in (logits_NV, targets.label_N[:, None], weight_N[:, None]))
        for at, (logits, label, weight) in zip(range(0, len(weight_N), step), zip(*parts, strict=True), strict=True):
            log_p = logits.float().log_softmax(-1)
            loss_N[at : at + step] = -log_p.gather(1, label)[:, 0]
            slope_NV[at : at + step] = log_p.exp_().mul_(weight).scatter_add_(1, label, -weight)
        total_B = torch.stack([part.sum() for part in torch.split(loss_N, targets.counts)])
    return total_B / count_B, slope_NV
