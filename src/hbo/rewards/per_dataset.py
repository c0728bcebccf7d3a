"""Rewards that a dataset has as a whole, not as a mean over its rows: how the baselines see it.

The groups' reward, where there is one, is measured by a Probe as ever.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from hbo.arrays import Floats, Ints
from hbo.config import HBOConfig
from hbo.config.rewards import needs
from hbo.core.algorithm import Rewards
from hbo.core.keys import Purpose
from hbo.errors import ConfigError, DataError
from hbo.rewards import built_in
from hbo.rewards.measurer import Measurer, Standing
from hbo.rewards.passes import Sets, chosen
from hbo.rewards.past import Past
from hbo.rewards.probe import Probe
from hbo.rewards.supply import Supply, shared_rows
from hbo.scoring.processes import ALONE, Processes


class PerDataset(Measurer):
    """Measures as a Probe does, the datasets' reward (of mos+: the groups') as a whole.

    Args:
        probe: Rows, their pools, and the reward that is left to it.
        config: Settings of both levels.
        reward: One that a dataset has as a whole.
        dev_K: Rows of each dataset that are set aside, for rewards that need them.

    Raises:
        ConfigError: Rows are packed.
        DataError: No rows are set aside, but the reward needs them.
    """

    def __init__(self, probe: Probe, config: HBOConfig, reward: str, dev_K: list[Ints]) -> None:
        self.probe, self.config, self.reward, self.dev_K = probe, config, reward, dev_K
        self._function = built_in(reward)
        self.past = Past([0] * len(dev_K)) if "past" in needs(reward) else None
        self._standing: Standing | None = None
        if "dev_rows" in needs(reward) and not dev_K:
            raise DataError(f"the reward {reward} is measured on rows that are set aside, but there are none")
        if probe.examples is not probe.rows:
            raise ConfigError(
                f"the reward {reward} belongs to a dataset as a whole and can't be measured on packed rows; set "
                "packing: false, or choose another reward"
            )

    def settle(self, model: nn.Module, processes: Processes = ALONE) -> str:
        """As `Probe.settle`; one row of each dataset, or of each group, is measured as an update does it."""
        said = self.probe.settle(model, processes)
        row_C = [rows[:1] for rows in self._sets_of(self.probe.pool)]
        trial = None if self.past is None else Past(self.past.now_K)
        self._measured(model, row_C, self._dev(0, 1), processes, trial)
        return said

    def measure_reference(self, model: nn.Module, processes: Processes = ALONE) -> None:
        """As `Probe.measure_reference`, if the probe has a reward to measure; a reward with a past begins it here."""
        if self.probe.functions[1] is not None:
            self.probe.measure_reference(model, processes)
        if self.past is not None:
            self._measured(model, [], self._looked_at(0), processes, self.past)

    def before_update(self, standing: Standing) -> None:
        """Notes how many rows were drawn, and how many are to come."""
        self._standing = standing
        if self.past is not None:
            self.past.now_K = standing.drawn_KL.sum(axis=1).tolist()

    def state_dict(self) -> dict[str, Any]:
        """As the probe's, and the past."""
        return self.probe.state_dict() | ({} if self.past is None else {"past": self.past.to_json()})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the probe's."""
        self.probe.load_state_dict(state)
        if self.past is not None:
            self.past.load(state["past"])

    def measure(self, model: nn.Module, step: int, processes: Processes = ALONE) -> Rewards:
        """As `Probe.measure`; no standard error is known of a reward of the whole."""
        is_due, local_is_due = self.config.measured(step)
        rewards = Rewards(examples=0)
        if self.probe.functions[1] is not None and local_is_due:
            rewards = self.probe.measure(model, step, processes)
        if not (local_is_due if self.config.is_flat else is_due):
            return rewards
        row_C = [] if self.past is not None else self._sets_of(self.probe.probes(step))
        dev_K = self._looked_at(step)
        value_C = self._measured(model, row_C, dev_K, processes, self.past)
        examples = rewards.examples + sum(map(len, row_C if self.past is None else dev_K))
        if self.config.is_flat:
            return Rewards(local_KL=value_C.reshape(-1, self.probe.groups.levels), examples=examples)
        return replace(rewards, global_K=value_C, examples=examples)

    def _measured(
        self, model: nn.Module, row_C: list[Ints], dev_K: list[Ints], processes: Processes, past: Past | None
    ) -> Floats:
        sets = Sets(
            self.probe.passes(processes),
            row_C,
            dev_K,
            gradient_tokens=self.config.probe_tokens,
            past=past,
            supply=self._supply() if "supply" in needs(self.reward) else None,
        )
        value_C: Floats = self._function(model, sets)
        return value_C

    def _supply(self) -> Supply:
        rows_K, now = self.probe.groups.sizes_K, self._standing
        drawn_K, to_come = (np.zeros_like(rows_K), 0) if now is None else (now.drawn_KL.sum(axis=1), now.to_come)
        return Supply(rows_K, self._shared_KK, drawn_K, to_come)

    @cached_property
    def _shared_KK(self) -> Floats:
        return shared_rows(self.probe.rows, self.probe.groups)  # not before it is wanted: all rows are looked at

    def _sets_of(self, cells: list[Ints]) -> list[Ints]:
        """The rows of each choice, given those of each group: the groups themselves if one actor holds them all."""
        levels = 1 if self.config.is_flat else self.probe.groups.levels
        return [np.concatenate(cells[k : k + levels]) for k in range(0, len(cells), levels)]

    def _looked_at(self, step: int) -> list[Ints]:
        """The rows set aside that an update looks at: a reward with a past always sees the same ones."""
        return self._dev(step, self.config.probes) if self.past is None else self._dev(0, self.config.probe_pool)

    def _dev(self, step: int, count: int) -> list[Ints]:
        return [chosen(rows, count, (self.probe.seed, Purpose.DEV, step, k)) for k, rows in enumerate(self.dev_K)]
