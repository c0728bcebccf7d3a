"""The training loss of each dataset and group, read off the passes that train anyway.

A hook looks at the model's inputs and outputs; no pass is added and no tensor of the step is changed. Nor is the device
waited for: sums stay there until a line of the log asks for them. No checkpoint holds them: as with the trainer's own
loss, the first line of a resumed run is of the steps since.

    Meter           trainers whose loss is a mean over target tokens: each token's loss, from the model's output
    ReplayMeter     DPOTrainer: the outputs of the model and of the reference are kept until the step is over; then the
                    trainer computes its loss from each row's part of them
    NoMeter         other trainers with a loss of their own, which a pass over several rows doesn't show row by row

Letters: B rows of a batch, T tokens, P places (rows or tokens) that are booked, V vocabulary, C groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from hbo.arrays import Floats, Ints
from hbo.core.groups import Groups
from hbo.data.tokens import IGNORED, predicts_target
from hbo.rewards.measurer import Step, StepWatcher
from hbo.scoring.head import targets_at_once
from hbo.scoring.processes import ALONE, Processes
from hbo.training.own_loss import TrainerLoss

Outputs = dict[str, Tensor]


class Meter(StepWatcher):
    """Sums of token losses per group, since the last reading."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self._sums_2C: Tensor | None = None  # of losses and of tokens, where the model computes
        self._expected: list[Ints] = []  # the rows of each batch of the step that is still to come
        self._handles: list[RemovableHandle] = []

    def before_step(self, model: nn.Module, step: Step) -> None:
        """Takes note of the rows that come; listens to `model` from the first step on."""
        if not self._handles:
            self._handles = [
                module.register_forward_hook(self._after, with_kwargs=True) for module in self._heard(model)
            ]
        self._expected = list(step.batches)

    def close(self) -> None:
        """Stops listening."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def read(self) -> tuple[Floats, Floats]:
        """Sums of losses in nats and how many there were per group (K, L) since the last call; starts anew."""
        shape = self.groups.sizes_KL.shape
        if self._sums_2C is None:
            return np.zeros(shape), np.zeros(shape)
        loss_C, count_C = self._sums_2C.cpu().double().numpy()
        self._sums_2C = None
        return loss_C.reshape(shape), count_C.reshape(shape)

    def _heard(self, model: nn.Module) -> Iterable[nn.Module]:
        return [model]

    def _after(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not model.training or not self._expected:
            return
        with torch.no_grad():
            losses = _token_losses(kwargs, output)
        if losses is None:  # without labels it's not the batch's own pass
            return
        rows, (loss_BT, mask_BT) = self._expected[0], losses
        if len(loss_BT) == len(rows):
            cell_P, loss_P, count_P = self.groups.cell_N[rows], loss_BT.sum(dim=1), mask_BT.sum(dim=1)
        elif (found := self._flattened(rows, loss_BT.shape)) is not None:  # one long row, each token a place
            cell_P, loss_P, count_P = found, loss_BT[0, : len(found)], mask_BT[0, : len(found)]
        else:
            return
        self._expected.pop(0)
        self._book(cell_P, loss_P, count_P)

    def _book(self, cell_P: Ints, loss_P: Tensor, count_P: Tensor) -> None:
        device = loss_P.device
        exact = torch.float32 if device.type == "mps" else torch.float64  # the one backend that has no more
        if self._sums_2C is None:
            self._sums_2C = torch.zeros((2, self.groups.sizes_KL.size), dtype=exact, device=device)
        place_P = torch.from_numpy(cell_P.astype(np.int64))
        if device.type == "cuda":
            place_P = place_P.pin_memory()  # a copy from other memory would wait for the GPU
        values_2P = torch.stack([loss_P.to(exact), count_P.to(exact)])
        self._sums_2C.index_add_(1, place_P.to(device, non_blocking=True), values_2P)

    def _flattened(self, rows: Ints, shape: torch.Size) -> Ints | None:
        """The group of each token of a batch whose rows were put one behind the other, without padding (1, T).

        None when it is another kind of batch (rows in pairs, say), whose tokens can't be told apart.
        """
        length_N = self.groups.length_N
        # The first token of the first row is predicted from nothing.
        if length_N is None or shape[0] != 1 or shape[1] < length_N[rows].sum() - 1:
            return None
        cells: Ints = np.repeat(self.groups.cell_N[rows], length_N[rows])[1:]
        return cells


class NoMeter(Meter):
    """Listens to nothing, so that the log has no loss of a dataset."""

    def _heard(self, model: nn.Module) -> Iterable[nn.Module]:
        return []


def _token_losses(kwargs: dict[str, Any], output: Any) -> tuple[Tensor, Tensor] | None:
    """Losses (B, T) and target mask (B, T) of a batch, from TRL's per-token output or from plain logits."""
    log_probs = getattr(output, "log_probs", None)
    if log_probs is not None:
        return -log_probs.detach(), output.label_mask
    labels, logits = kwargs.get("labels"), getattr(output, "logits", None)
    if labels is None or logits is None or logits.shape[:2] != labels.shape:
        return None
    label_BT = functional.pad(labels[:, 1:].to(logits.device), (0, 1), value=IGNORED)
    label_P = label_BT.reshape(-1)
    logits_PV = logits.reshape(-1, logits.shape[-1])  # the last of a row predicts nothing; leaving it out would copy
    loss_P = torch.zeros(label_P.shape, device=logits.device)
    for place in _places(label_P, targets_at_once(logits_PV), counted=logits.device.type == "cpu"):
        loss_P[place] = functional.cross_entropy(
            logits_PV[place].float(), label_P[place], ignore_index=IGNORED, reduction="none"
        )
    return loss_P.view_as(label_BT)[:, :-1], predicts_target(labels.to(logits.device))


def _places(label_P: Tensor, size: int, *, counted: bool) -> Sequence[Tensor | slice]:
    """Places to work on, `size` at once: those of targets, or all where counting them would wait for the device."""
    if counted:
        return torch.split((label_P != IGNORED).nonzero().squeeze(1), size)
    return [slice(start, start + size) for start in range(0, len(label_P), size)]


class ReplayMeter(Meter):
    """Sums of row losses per group, since the last reading, by a trainer's own loss.

    Args:
        objective: The loss of a row.
        groups: Groups of the rows.
        is_referred: Whether a pass of a reference follows each of the model's; False: rows hold its outcome.
    """

    def __init__(self, objective: TrainerLoss, groups: Groups, *, is_referred: bool) -> None:
        super().__init__(groups)
        self.objective, self.is_referred = objective, is_referred
        self._passes: list[_Pass] = []

    def after_step(self, processes: Processes = ALONE) -> float:
        """Lets the trainer compute its loss of each row whose passes are complete."""
        with self.objective.apart():
            for each in self._passes:
                if not self.is_referred or each.reference is not None:
                    self._replay(each)
        self._passes = []
        return 0.0

    def _replay(self, each: _Pass) -> None:
        losses = []
        for place, row in enumerate(each.rows.tolist()):
            reference = None if each.reference is None else each.replay(place, each.reference)
            losses.append(self.objective.replayed(row, each.replay(place, each.policy), reference))
        loss_B = torch.tensor(losses, dtype=torch.float64)
        self._book(self.groups.cell_N[each.rows], loss_B, torch.ones_like(loss_B))

    def close(self) -> None:
        """Stops listening, and forgets passes whose step didn't end."""
        super().close()
        self._passes = []

    def _heard(self, model: nn.Module) -> Iterable[nn.Module]:
        reference = self.objective.trainer.ref_model
        return [model] if reference is None else [model, reference]

    def _after(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if "log_probs" not in output:  # TRL before 1.15 makes them afterwards, of logits that are too many to keep
            return
        # The reference follows each pass of the model, without gradients; with LoRA it is the model itself.
        waiting = self._passes[-1] if self._passes and self.is_referred else None
        if waiting is not None and waiting.reference is None and not torch.is_grad_enabled():
            waiting.reference = _kept(output)
        elif model.training and torch.is_grad_enabled() and self._expected:
            self._passes.append(_Pass(self._expected.pop(0), kwargs["input_ids"].shape, _kept(output)))


@dataclass
class _Pass:
    """A micro-batch of B rows and S sequences, S a multiple of B: sequence s belongs to row s mod B."""

    rows: Ints
    shape: torch.Size
    policy: Outputs
    reference: Outputs | None = None

    def replay(self, place: int, outputs: Outputs) -> Callable[..., SimpleNamespace]:
        """Stands for the model that gave `outputs`, when it is called with the row at `place` alone."""
        sequences, longest = self.shape
        own = torch.arange(place, sequences, len(self.rows))
        # What prompt tuning puts before the tokens is left out; the trainer looks at the end only.
        parts = {name: value[own.to(value.device), 1 - longest :] for name, value in outputs.items() if value.dim() > 1}
        scalars = {name: value for name, value in outputs.items() if value.dim() == 0}

        def model(input_ids: Tensor, **_: Any) -> SimpleNamespace:
            width = input_ids.shape[1] - 1  # the batch's padding may be longer than the row's own
            return SimpleNamespace(**{name: value[:, :width] for name, value in parts.items()}, **scalars)

        return model


def _kept(output: Any) -> Outputs:
    """An output's numbers per token, and single numbers; no states of layers."""
    width = output.log_probs.shape
    found = {name: value.detach() for name, value in output.items() if isinstance(value, Tensor)}
    return {name: value for name, value in found.items() if value.shape in (width, torch.Size())}
