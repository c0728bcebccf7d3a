"""Rewards that a dataset has as a whole, not as a mean over its rows: how the baselines see it.

The groups' reward, where there is one, is measured by a Probe as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hbo.config import HBOConfig
from hbo.config.rewards import DEV_REWARDS
from hbo.core.algorithm import Rewards
from hbo.errors import ConfigError, DataError
from hbo.rewards.alignment import Gradients, aligned, aligned_after_a_step, batch_norms
from hbo.rewards.measurer import Measurer
from hbo.rewards.passes import chosen, over_rows
from hbo.rewards.probe import Probe
from hbo.rewards.transferability import alikeness, hidden_size, mean_states
from hbo.rewards.uncertainty import UNCERTAINTIES, WIDTH, statistics
from hbo.scoring.devices import device_of
from hbo.scoring.processes import ALONE, Processes
from hbo.scoring.room import tokens_on

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_DEV = 13  # what a generator is for, part of its key
_OF_GRADIENTS = {
    "batch_gradient_norm": batch_norms,
    "gradient_alignment": aligned,
    "lookahead_alignment": aligned_after_a_step,
}


class PerDataset(Measurer):
    """Measures as a Probe does, the datasets' reward (of mos+: the groups') as a whole.

    Args:
        probe: Rows, their pools, and the reward that is left to it.
        config: Settings of both levels.
        reward: A name of `hbo.config.rewards.DATASET_REWARDS`.
        dev_K: Rows of each dataset that are set aside, for rewards that need them.

    Raises:
        DataError: There are no such rows.
    """

    def __init__(self, probe: Probe, config: HBOConfig, reward: str, dev_K: list[Ints]) -> None:
        self.probe, self.config, self.reward, self.dev_K = probe, config, reward, dev_K
        if reward in DEV_REWARDS and not dev_K:
            raise DataError(f"the reward {reward} is measured on rows set aside, but none are")
        if probe.examples is not probe.rows:
            raise ConfigError(
                f"the reward {reward} belongs to a dataset as a whole and can't be measured on packed rows; set "
                "packing: false, or choose another reward"
            )

    def settle(self, model: nn.Module, processes: Processes = ALONE) -> str:
        """As `Probe.settle`; one row of each dataset is measured as an update does it."""
        said = self.probe.settle(model, processes)
        cells = [rows[:1] for rows in self.probe.pool]
        if self.config.is_flat:
            self._alikeness(model, cells, processes)
        else:
            levels = self.probe.groups.levels
            row_K = [np.concatenate(cells[k : k + levels])[:1] for k in range(0, len(cells), levels)]
            self._whole(model, 0, row_K, processes, dev=1)
        return said

    def measure_reference(self, model: nn.Module, processes: Processes = ALONE) -> None:
        """As `Probe.measure_reference`, if the probe has a reward to measure."""
        if self.probe.local_fn is not None:
            self.probe.measure_reference(model, processes)

    def state_dict(self) -> dict[str, Any]:
        """As the probe's."""
        return self.probe.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the probe's."""
        self.probe.load_state_dict(state)

    def measure(self, model: nn.Module, step: int, processes: Processes = ALONE) -> Rewards:
        """As `Probe.measure`; no standard error is known of a reward of the whole."""
        is_due, local_is_due = self.config.measured(step)
        cells = self.probe.probes(step)
        if self.config.is_flat:
            value = self._alikeness(model, cells, processes)
            return Rewards(local_KL=value.reshape(-1, self.probe.groups.levels), examples=int(sum(map(len, cells))))
        rewards = Rewards(examples=0)
        if self.probe.local_fn is not None and local_is_due:
            rewards = self.probe.measure(model, step, processes)
        if not is_due:
            return rewards
        levels = self.probe.groups.levels
        row_K = [np.concatenate(cells[k : k + levels]) for k in range(0, len(cells), levels)]
        value = self._whole(model, step, row_K, processes)
        return replace(rewards, global_K=value, examples=rewards.examples + int(sum(map(len, row_K))))

    def _whole(
        self, model: nn.Module, step: int, row_K: list[Ints], processes: Processes, dev: int | None = None
    ) -> Floats:
        if self.reward in _OF_GRADIENTS:
            tokens = self.config.probe_tokens or tokens_on(device_of(model))
            gradients = Gradients(self.probe.rows, tokens, self.probe.pad_token_id)
            return _OF_GRADIENTS[self.reward](model, gradients, row_K, self._dev(step, dev), processes)
        if self.reward in UNCERTAINTIES:
            dev_K = self._dev(step, dev)
            row_7P = self._over(model, dev_K, statistics, WIDTH, processes)
            return np.array([_known(UNCERTAINTIES[self.reward], row) for row in _split(row_7P, dev_K)])
        return self._alikeness(model, row_K, processes)

    def _alikeness(self, model: nn.Module, sets: list[Ints], processes: Processes) -> Floats:
        state_HP = self._over(model, sets, mean_states, hidden_size(model), processes)
        return alikeness(np.stack([_mean(state) for state in _split(state_HP, sets)]))

    def _dev(self, step: int, count: int | None = None) -> list[Ints]:
        count, seed = count or self.config.probes, self.probe.seed
        return [chosen(rows, count, (seed, _DEV, step, k)) for k, rows in enumerate(self.dev_K)]

    def _over(
        self,
        model: nn.Module,
        sets: list[Ints],
        measure: Callable[[nn.Module, Any], Floats],
        width: int,
        processes: Processes,
    ) -> Floats:
        return over_rows(
            model,
            self.probe.rows,
            np.concatenate(sets),
            lambda rows_B, batch: measure(model, batch),
            width,
            room=self.probe.room,
            pad_token_id=self.probe.pad_token_id,
            processes=processes,
        )


def _split(value_WP: Floats, sets: list[Ints]) -> list[Floats]:
    return np.split(value_WP, np.cumsum([len(rows) for rows in sets])[:-1], axis=1)


def _known(function: Callable[[Floats], float], row_WP: Floats) -> float:
    """Of the rows that have a target."""
    known = row_WP[:, np.isfinite(row_WP).all(axis=0)]
    return function(known) if known.size else np.nan


def _mean(state_HP: Floats) -> Floats:
    known = state_HP[:, np.isfinite(state_HP).all(axis=0)]
    return known.mean(axis=1) if known.size else np.full(len(state_HP), np.nan)
