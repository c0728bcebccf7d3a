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

from hbo.core.algorithm import Rewards
from hbo.errors import ConfigError, DataError
from hbo.reward_names import DEV_REWARDS
from hbo.rewards.alignment import Gradients, aligned, aligned_after_a_step, batch_norms
from hbo.rewards.passes import Reduce, over_rows
from hbo.rewards.probe import Probe, chosen
from hbo.rewards.transferability import alikeness, hidden_size, mean_states
from hbo.rewards.uncertainty import UNCERTAINTIES, WIDTH, statistics

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_DEV = 13  # what a generator is for, part of its key
_OF_GRADIENTS = {
    "batch_gradient_norm": batch_norms,
    "gradient_alignment": aligned,
    "lookahead_alignment": aligned_after_a_step,
}


class PerDataset:
    """Measures as a Probe does, the datasets' reward (of mos+: the groups') as a whole.

    Args:
        probe: Rows, their pools, and the reward that is left to it.
        reward: A name of `hbo.reward_names.DATASET_REWARDS`.
        dev_K: Rows of each dataset that are set aside, for rewards that need them.

    Raises:
        DataError: There are no such rows.
    """

    def __init__(self, probe: Probe, reward: str, dev_K: list[Ints]) -> None:
        self.probe, self.reward, self.dev_K = probe, reward, dev_K
        if reward in DEV_REWARDS and not dev_K:
            raise DataError(f"the reward {reward} is measured on rows set aside, but none are")
        if probe.examples is not probe.rows:
            raise ConfigError(
                f"the reward {reward} belongs to a dataset as a whole and can't be measured on packed rows; set "
                "packing: false, or choose another reward"
            )

    def measure_reference(self, model: nn.Module) -> None:
        """As `Probe.measure_reference`, if the probe has a reward to measure."""
        if self.probe.local_fn is not None:
            self.probe.measure_reference(model)

    def state_dict(self) -> dict[str, Any]:
        """As the probe's."""
        return self.probe.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the probe's."""
        self.probe.load_state_dict(state)

    def measure(
        self, model: nn.Module, step: int, *, rank: int = 0, ranks: int = 1, reduce: Reduce = np.copy
    ) -> Rewards:
        """As `Probe.measure`; no standard error is known of a reward of the whole."""
        shape = len(self.probe.groups.datasets), self.probe.groups.levels
        cells = self.probe.probes(step)
        row_K = [np.concatenate(cells[k * shape[1] : (k + 1) * shape[1]]) for k in range(shape[0])]
        if self.reward in _OF_GRADIENTS:
            gradients = Gradients(self.probe.rows, self.probe.config.probe_tokens, self.probe.pad_token_id)
            measure = _OF_GRADIENTS[self.reward]
            value = measure(model, gradients, row_K, self._dev(step) if self.dev_K else [], rank, ranks, reduce)
        elif self.reward in UNCERTAINTIES:
            dev_K = self._dev(step)
            row_7P = self._over(model, dev_K, statistics, WIDTH, rank, ranks, reduce)
            value = np.array([_known(UNCERTAINTIES[self.reward], row) for row in _split(row_7P, dev_K)])
        else:
            units = cells if self.probe.config.is_flat else row_K
            state_HP = self._over(model, units, mean_states, hidden_size(model), rank, ranks, reduce)
            value = alikeness(np.stack([_mean(state) for state in _split(state_HP, units)]))
            if self.probe.config.is_flat:
                return Rewards(local_KL=value.reshape(shape), examples=int(sum(map(len, cells))))
        rewards = Rewards(examples=0)
        if self.probe.local_fn is not None:
            rewards = self.probe.measure(model, step, rank=rank, ranks=ranks, reduce=reduce)
        return replace(rewards, global_K=value, examples=rewards.examples + int(sum(map(len, row_K))))

    def _dev(self, step: int) -> list[Ints]:
        count, seed = self.probe.config.probes, self.probe.seed
        return [chosen(rows, count, (seed, _DEV, step, k)) for k, rows in enumerate(self.dev_K)]

    def _over(
        self,
        model: nn.Module,
        sets: list[Ints],
        measure: Callable[[nn.Module, Any], Floats],
        width: int,
        rank: int,
        ranks: int,
        reduce: Reduce,
    ) -> Floats:
        return over_rows(
            model,
            self.probe.rows,
            np.concatenate(sets),
            lambda rows_B, batch, passes: measure(model, batch),
            width,
            token_budget=self.probe.config.probe_tokens,
            pad_token_id=self.probe.pad_token_id,
            rank=rank,
            ranks=ranks,
            reduce=reduce,
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
