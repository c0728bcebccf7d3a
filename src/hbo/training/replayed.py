"""The training loss of each dataset and group under a trainer's own loss, read off the passes that train anyway.

The outputs of the model and of the reference are kept until the step is over; then the trainer computes its loss
from each row's part of them. No forward is added and no tensor of the step is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hbo.core.groups import Groups
from hbo.training.own_loss import TrainerLoss

Ints = NDArray[np.int64]
Outputs = dict[str, Tensor]


class ReplayMeter:
    """Sums of row losses per group (K·L,), since the last reading; a `Meter` for trainers with a loss of their own.

    Args:
        objective: The loss of a row.
        groups: Groups of the rows.
        is_referred: Whether a pass of a reference follows each of the model's; False: rows hold its outcome.
    """

    def __init__(self, objective: TrainerLoss, groups: Groups, *, is_referred: bool) -> None:
        self.objective, self.groups, self.is_referred = objective, groups, is_referred
        self.sum_C = np.zeros(groups.sizes_KL.size)
        self.rows_C = np.zeros(groups.sizes_KL.size)
        self._expected: list[Ints] = []
        self._passes: list[_Pass] = []
        self._handles: list[RemovableHandle] = []

    def attach(self, model: nn.Module) -> None:
        """Starts listening to `model` and to the trainer's reference model; a second call moves to another model."""
        self.detach()
        reference = self.objective.trainer.ref_model
        for module in [model] if reference is None else [model, reference]:
            self._handles.append(module.register_forward_hook(self._after, with_kwargs=True))

    def detach(self) -> None:
        """Stops listening."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._passes = [], []

    def expect(self, batches: list[Ints]) -> None:
        """The rows of the coming training batches of this process."""
        self._settle()
        self._expected = list(batches)

    def read(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums of row losses and numbers of rows per group (K, L) since the last call; starts anew."""
        self._settle()
        shape = self.groups.sizes_KL.shape
        found = self.sum_C.reshape(shape), self.rows_C.reshape(shape)
        self.sum_C, self.rows_C = np.zeros_like(self.sum_C), np.zeros_like(self.rows_C)
        return found

    def _after(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        waiting = self._passes[-1] if self._passes and self.is_referred else None
        if waiting is not None and waiting.reference is None and not torch.is_grad_enabled():
            waiting.reference = _kept(output)
        elif model.training and torch.is_grad_enabled() and self._expected:
            self._passes.append(_Pass(self._expected.pop(0), kwargs["input_ids"].shape, _kept(output)))

    def _settle(self) -> None:
        for each in self._passes:
            if self.is_referred and each.reference is None:
                continue
            for place, row in enumerate(each.rows.tolist()):
                reference = None if each.reference is None else each.part(place, each.reference)
                loss = self.objective.replayed(row, each.part(place, each.policy), reference)
                self.sum_C[self.groups.cell_N[row]] += loss
                self.rows_C[self.groups.cell_N[row]] += 1
        self._passes = []


@dataclass
class _Pass:
    """A micro-batch of B rows and S sequences, S a multiple of B: sequence s belongs to row s mod B."""

    rows: Ints
    shape: torch.Size
    policy: Outputs
    reference: Outputs | None = None

    def part(self, place: int, outputs: Outputs) -> _Replayed:
        sequences, longest = self.shape
        own = torch.arange(place, sequences, len(self.rows))
        # What prompt tuning puts before the tokens is left out; the trainer looks at the end only.
        parts = {name: value[own.to(value.device), 1 - longest :] for name, value in outputs.items() if value.dim() > 1}
        return _Replayed(parts, {name: value for name, value in outputs.items() if value.dim() == 0})


class _Replayed:
    """Stands for a model that has already seen the rows it is called with."""

    def __init__(self, parts: Outputs, scalars: Outputs) -> None:
        self.parts, self.scalars = parts, scalars

    def __call__(self, input_ids: Tensor, **_: Any) -> _Output:
        width = input_ids.shape[1] - 1  # the batch's padding may be longer than the row's own
        return _Output({**{name: value[:, :width] for name, value in self.parts.items()}, **self.scalars})


class _Output:
    def __init__(self, fields: Outputs) -> None:
        vars(self).update(fields)


def _kept(output: Any) -> Outputs:
    """An output's numbers per token, and single numbers; no states of layers."""
    width = output.log_probs.shape
    found = {name: value.detach() for name, value in output.items() if isinstance(value, Tensor)}
    return {name: value for name, value in found.items() if value.shape in (width, torch.Size())}
