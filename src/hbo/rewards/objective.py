"""Both rewards on a trainer's own loss, one row at a time: for rows and losses that no batched rule fits.

DPO's loss, say, compares two sequences; a row with an image is more than its tokens. Autograd makes one pass per probe.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hbo.arrays import Floats, Ints
from hbo.config import HBOConfig
from hbo.config.rewards import needs
from hbo.core.algorithm import Rewards
from hbo.core.groups import Groups
from hbo.core.keys import Purpose, generator
from hbo.errors import HBOError, RewardError
from hbo.rewards import Reward, reward_functions
from hbo.rewards.gradients import gradient_norm_of, trainable_parameters
from hbo.rewards.measurer import Measurer
from hbo.rewards.norms.left_as_found import left_as_found, seed_all
from hbo.rewards.passes import pool_of, probes_of
from hbo.rewards.per_row import loss
from hbo.rewards.probe import due_functions, rewards_of_probes, value_of
from hbo.scoring.processes import ALONE, Processes

_TRIED = 3  # groups of which a row is measured before training
_INSTEAD = "fix it, or choose a method that measures nothing (proportional, temperature, uniform, stratified)"


class Objective(Protocol):
    """What a trainer minimises, for one row.

    Attributes:
        name: The trainer's, for messages.
    """

    name: str

    def batch(self, row: int) -> Any:
        """The row as a batch of its own, as the trainer would collate it."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The trainer's loss () of a batch."""

    def apart(self) -> AbstractContextManager[None]:
        """Inside, losses are computed as in an evaluation and leave nothing in the trainer's records."""


class OwnLossProbe(Measurer):
    """Measures as a Probe does, on a trainer's own loss of each row.

    Args:
        objective: That loss.
        groups: Groups of the trainer's rows.
        config: Rewards (those that fit any loss, or functions of the user's) and numbers of probes.
        seed: Key of the pool and the probes.

    Raises:
        ConfigError: A reward isn't known.
    """

    def __init__(self, objective: Objective, groups: Groups, config: HBOConfig, *, seed: int = 0) -> None:
        self.objective, self.groups, self.config, self.seed = objective, groups, config, seed
        self.functions = reward_functions(config)
        self.pool = pool_of(groups, config, seed)
        self.reference: dict[int, float] = {}

    def settle(self, model: nn.Module, processes: Processes = ALONE) -> str:
        """Measures a few rows, as an update does.

        Raises:
            RewardError: A reward can't be measured; the trainer and the cause are named.
        """
        self.tried(model, self.functions, processes)
        return "rewards are measured on the trainer's own loss, one row at a time"

    def tried(self, model: nn.Module, functions: Sequence[Reward | None], processes: Processes) -> Floats:
        """What each of the functions gives for a few rows (F, P).

        Raises:
            RewardError: The trainer's collator or loss fails on a row alone.
        """
        few = np.concatenate([rows[:1] for rows in self.pool if len(rows)][:_TRIED])
        try:
            return self._values(model, few, functions, processes)
        except HBOError:
            raise
        except Exception as error:
            raise RewardError(
                f"{self.objective.name} can't be measured: its loss of a single row ended in {type(error).__name__} "
                f"({error}); {_INSTEAD}"
            ) from error

    def measure_reference(self, model: nn.Module, processes: Processes = ALONE) -> None:
        """Notes the loss of every row of the pool under `model`, which must be the untuned one.

        Raises:
            RewardError: A row alone has no loss; the trainer and the cause are named.
        """
        losses = self.tried(model, [loss], processes)[0]
        if not np.isfinite(losses).any() or not losses.any():
            raise RewardError(
                f"{self.objective.name} can't be measured: the loss of a single row is {losses[0]:g}, as with losses "
                f"that compare the rows of a batch; {_INSTEAD}"
            )
        pool = np.concatenate(self.pool)
        losses = self._values(model, pool, [loss], processes)[0]
        self.reference = dict(zip(pool.tolist(), losses.tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The losses under the untuned model, as JSON values."""
        return {"reference": list(self.reference.items())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.reference = {int(row): loss for row, loss in state["reference"]}

    def measure(self, model: nn.Module, step: int, processes: Processes = ALONE) -> Rewards:
        """As `Probe.measure`."""
        cells = probes_of(self.pool, self.config, self.groups.levels, self.seed, step)
        functions = due_functions(self.functions, self.config, step)
        value_2P = self._values(model, np.concatenate(cells), functions, processes)
        return rewards_of_probes(self.groups, cells, value_2P, functions)

    def _values(
        self, model: nn.Module, number_P: Ints, functions: Sequence[Reward | None], processes: Processes
    ) -> Floats:
        value_FP = np.zeros((len(functions), len(number_P)))
        with left_as_found(model), self.objective.apart():
            # In turns also because a trainer's loss may gather its records over all processes.
            for at, is_own in processes.turns(len(number_P)):
                found_F = self._one_row(model, int(number_P[at]), functions)
                if is_own:
                    value_FP[:, at] = found_F
        return processes.total(value_FP)

    def _one_row(self, model: nn.Module, row: int, functions: Sequence[Reward | None]) -> Floats:
        # A collator or a loss that leaves something to chance leaves it to the same for this row, now and later.
        seed_all(int(generator(self.seed, Purpose.OWN_LOSS, row).integers(2**31)))
        batch = self.objective.batch(row)
        context: dict[str, Any] = {}
        if "gradient_norm" in needs(*functions):
            parameters = trainable_parameters(model)
            with torch.inference_mode(False), torch.enable_grad():
                value = self.objective.loss(model, batch)
                context["gradient_norm"] = gradient_norm_of(value, parameters).reshape(1)
        else:
            with torch.no_grad():
                value = self.objective.loss(model, batch)
        context["loss"] = value.detach().double().reshape(1)
        context["reference"] = torch.full_like(context["loss"], self.reference.get(row, np.nan))
        found_F = np.full(len(functions), np.nan)
        for tier, function in enumerate(functions):
            if function is not None:
                found_F[tier] = value_of(function, model, batch, context, 1).item()
        return found_F
