"""Rewards read off the training batches of the last few steps before an update, so that no extra forward runs.

What differs from probes (`hbo.rewards.probe`, the paper's way):

    rows        what training draws, so a group is seen as often as it is trained on; probes top up those seen too
                rarely; gradient norms, most of the cost, are read in every second step
    model       as it was at each of those steps, in training mode; not as it stands at the update
    reward      of the group's mean loss and mean gradient norm; the perplexity ratio is exp(mean loss now − mean loss
                of the group's pool under the untuned model), the ratio of perplexities over all tokens alike

C = K · L groups. Hooks are on the model during the window only.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.hooks import RemovableHandle

from hbo.arrays import Floats, Ints
from hbo.compat import inner_model
from hbo.config.rewards import REWARDS, needs, spec_of
from hbo.core.algorithm import Rewards
from hbo.errors import ConfigError
from hbo.rewards.gradients import unwrapped
from hbo.rewards.measurer import Measurer, Step
from hbo.rewards.norms import Facts, Uncovered
from hbo.rewards.observer import Observer
from hbo.rewards.per_row import gradient_norm, loss
from hbo.rewards.probe import Probe, rewards_of, value_of
from hbo.scoring.processes import ALONE, Processes
from hbo.scoring.targets import Targets

_NORM, _LOSS = 0, 1
_RARE = 4  # a group that was seen less often than this part of its probes is topped up until it was


class Window(Measurer):
    """Measures as a Probe does, on the batches that training shows it; a process sees its own batches.

    The probe measures what training doesn't show, and all there is if its passes can't be read.

    Raises:
        ConfigError: A reward is more than a function of losses and norms.
    """

    def __init__(self, probe: Probe) -> None:
        self.probe, self.groups, self.config = probe, probe.groups, probe.config
        self.functions = probe.functions
        for key, function in zip(("global_reward", "local_reward"), self.functions, strict=True):
            spec = spec_of(function)
            if function is not None and not (spec and spec.is_streamable):
                names = [name for name, each in REWARDS.items() if each.is_streamable]
                raise ConfigError(
                    f"balance.rewards is 'stream', which reads losses and gradient norms off the training batches, but "
                    f"balance.{key} needs a pass of its own; choose one of {', '.join(names)}, or set rewards: probe"
                )
        self.seconds = 0.0
        self.failed = False
        self._wants_norms = "gradient_norm" in needs(*self.functions)
        # Per group, for norms and losses: how many were seen, their sum, the sum of their squares.
        self._sums = np.zeros((2, 3, self.groups.sizes_KL.size))
        self._local = np.zeros_like(self._sums)
        self._reads_norms = False  # in this step
        self._why = ""
        self._expected: list[Ints] = []
        self._seeing: tuple[Observer, Ints] | None = None
        self._handles: list[RemovableHandle] = []

    def settle(self, model: nn.Module, processes: Processes = ALONE) -> str:
        """As `Probe.settle`; a model that is measured one row at a time is left to the probe from here on."""
        said = self.probe.settle(model, processes)
        self.failed = self.probe.facts is not None and not self.probe.facts.batched
        return said if self.failed else f"{said}, most of them read off the training batches"

    def measure_reference(self, model: nn.Module, processes: Processes = ALONE) -> None:
        """As `Probe.measure_reference`."""
        self.probe.measure_reference(model, processes)

    def state_dict(self) -> dict[str, Any]:
        """What the probe holds and what was seen since the last update, as JSON values."""
        return {**self.probe.state_dict(), "seen": self._sums.tolist(), "failed": self.failed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave; from a Probe's state it begins with nothing seen."""
        self.probe.load_state_dict(state)
        self._sums = np.array(state.get("seen", np.zeros_like(self._sums)))
        self.failed = bool(state.get("failed"))

    def before_step(self, model: nn.Module, step: Step) -> None:
        """Looks at the step, if an update is so near that the steps until then have as many rows as the probes."""
        steps = -(-self.config.probes * len(self.groups.datasets) // step.rows)
        ahead = next((ahead for ahead in range(1, 1 + steps) if step.is_due(step.done + ahead)), None)
        if self.failed or ahead is None:
            return
        self._reads_norms = self._wants_norms and ahead % 2 == 1  # so the last step before an update is one
        self._expected = list(step.batches)
        self._handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after),
        ]

    def after_step(self, processes: Processes = ALONE) -> float:
        """Takes in what all processes saw of the step, if it was looked at; seconds that the hooks took of it."""
        if not self._handles:
            return 0.0
        self.close()
        if self._expected:
            self._why = self._why or "the model was not called once for each batch"
        total = processes.total(np.append(self._local.ravel(), float(bool(self._why))))
        self._sums += total[:-1].reshape(self._sums.shape)
        self._local[:] = 0
        if total[-1]:
            self.failed = True
            warnings.warn(
                "rewards can't be read off the training batches, so they are measured on probes: "
                + (self._why or "another process says why"),
                stacklevel=2,
            )
        seconds, self.seconds = self.seconds, 0.0
        return seconds

    def close(self) -> None:
        """Takes every hook off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._take()

    def measure(self, model: nn.Module, step: int, processes: Processes = ALONE) -> Rewards:
        """As `Probe.measure`, but only groups seen too rarely since the last update are measured now."""
        if self.failed:
            return self.probe.measure(model, step, processes)
        norms_C, losses_C = self._sums[:, 0]
        cells = []
        for rows, norms, losses in zip(self.probe.probes(step), norms_C, losses_C, strict=True):
            # Losses are read in every step, norms in every second: of a norm one is enough.
            missing = max(max(1, len(rows) // _RARE) - losses, self._wants_norms - norms, 0)
            cells.append(_spread(rows, min(int(missing), len(rows))))
        rows_P = np.concatenate(cells)
        if len(rows_P):
            norm = gradient_norm if self._wants_norms else None
            value_2P = self.probe.values(model, rows_P, (norm, loss), processes)
            self._add(self._sums, np.repeat(np.arange(len(cells)), [len(rows) for rows in cells]), value_2P)
        rewards = self._rewards()
        self._sums[:] = 0
        return rewards

    def _rewards(self) -> Rewards:
        count_2C, sum_2C, squares_2C = self._sums.swapaxes(0, 1)
        with np.errstate(all="ignore"):  # what nobody saw is NaN
            mean_2C = sum_2C / count_2C
            variance_2C = (squares_2C - sum_2C * mean_2C).clip(min=0) / (count_2C - 1) / count_2C
            variance_2C[~np.isfinite(variance_2C)] = np.nan
        value_2C, spread_2C = np.full_like(mean_2C, np.nan), np.full_like(mean_2C, np.nan)
        for tier, function in enumerate(self.functions):
            if function is not None:
                value_2C[tier] = self._of_means(function, mean_2C)
                # How far the reward moves if the mean does by its standard error: no row has a reward of its own here.
                shifted = self._of_means(function, mean_2C + np.sqrt(variance_2C))
                with np.errstate(over="ignore", invalid="ignore"):
                    spread_2C[tier] = (shifted - value_2C[tier]) ** 2
        return rewards_of(self.groups, value_2C, spread_2C, self.functions, examples=int(count_2C[_LOSS].sum()))

    def _of_means(self, function: Any, mean_2C: Floats) -> Floats:
        reference_C = np.array(
            [_mean([self.probe.reference[row] for row in rows.tolist()]) for rows in self.probe.pool]
        )
        values = {"gradient_norm": mean_2C[_NORM], "loss": mean_2C[_LOSS], "reference": reference_C}
        context = {name: torch.from_numpy(value) for name, value in values.items()}
        return np.asarray(value_of(function, None, None, context, mean_2C.shape[1]).numpy())

    def _before(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if self._why or not self._expected or not model.training or not torch.is_grad_enabled():
            return
        labels = kwargs.get("labels")
        if labels is None:  # not the batch's own pass
            return
        self._take()  # of the batch before, whose backward is over when the next forward begins
        rows = self._expected.pop(0)
        if len(labels) != len(rows) or "input_ids" not in kwargs:
            self._why = f"a batch of {len(rows)} rows came as {len(labels)}"
            return
        whole = unwrapped(model)
        inner = inner_model(whole)
        try:
            targets = Targets.of(kwargs, labels.device)
            facts = self.probe.facts or Facts()
            observer = Observer(whole, inner, targets, facts, norms=self._reads_norms)
        except Uncovered as finding:
            self._why = str(finding)
            return
        observer.__enter__()  # left by `finish`, or by autograd at the end of the backward
        self._seeing = observer, self.groups.cell_N[rows].astype(np.int64)

    def _after(self, model: nn.Module, args: Any, output: Any) -> None:
        if self._seeing and not self._seeing[0].forward_is_over:
            self._seeing[0].forward_done()

    def _take(self) -> None:
        """What the last observer has seen, its backward being over."""
        if self._seeing is None:
            return
        (observer, cell_B), self._seeing = self._seeing, None
        try:
            norm_B, loss_B = observer.finish()
        except Uncovered as finding:
            self._why = str(finding)
            return
        self.seconds += observer.seconds
        norm_B = norm_B if self._reads_norms else torch.full_like(loss_B, torch.nan)
        self._add(self._local, cell_B, np.stack([norm_B.double().cpu().numpy(), loss_B.double().cpu().numpy()]))

    def _add(self, sums: NDArray[Any], cell_B: Ints, value_2B: Floats) -> None:
        for value_B, into in zip(value_2B, sums, strict=True):
            known = np.isfinite(value_B)
            for power, sum_C in enumerate(into):
                np.add.at(sum_C, cell_B[known], value_B[known] ** power)


def _spread(rows: Ints, count: int) -> Ints:
    """So many of the rows, from all over them."""
    return rows[(2 * np.arange(count) + 1) * len(rows) // max(1, 2 * count)]


def _mean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else np.nan
