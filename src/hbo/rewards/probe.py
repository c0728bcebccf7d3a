"""Probes: which rows of each group to look at, and one pass over them that gives both rewards.

K datasets, L levels, P probes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from hbo.arrays import Floats, Ints
from hbo.config import HBOConfig
from hbo.config.rewards import needs, spec_of
from hbo.core.algorithm import Rewards
from hbo.core.groups import Groups
from hbo.errors import DataError, RewardError
from hbo.rewards import Functions, Reward, reward_functions
from hbo.rewards.examples import PACKED, PackedExamples
from hbo.rewards.gradients import gradient_norms_and_losses, settle
from hbo.rewards.measurer import Measurer
from hbo.rewards.norms import Facts, Uncovered
from hbo.rewards.passes import Batch, Passes, Sizing, pool_of, probes_of
from hbo.scoring.batches import TokenRow, TokenRows, pad, reader
from hbo.scoring.devices import device_of, is_whole
from hbo.scoring.losses import Scorer
from hbo.scoring.measure import without_instruction
from hbo.scoring.processes import ALONE, Processes
from hbo.scoring.room import Room

_TRIED = 3  # rows, as many as `settle` compares


class Probe(Measurer):
    """Measures both rewards of a mixture without leaving a trace on the model.

    Each group has a pool of rows, drawn once without replacement; an update looks at some of them, drawn anew by its
    step. Only the pool needs a loss of the untuned model.

    Args:
        rows: The trainer's own rows, with `input_ids` and `labels`; `hbo_reference` (loss of the untuned model, nats)
            spares the pass over the pool. Of packed rows (`seq_lengths`) each example is measured by itself.
        groups: Groups of `rows`.
        config: Rewards and numbers of probes.
        pad_token_id: Any valid token id.
        seed: Key of the pool and the probes; no other random number is used.
        opening: Token ids that stand before a response without its instruction (`hbo.data.tokens.opening`), needed by
            the reward `ifd_ratio` only.
        training_tokens: Tokens of a training batch, as far as that is known.

    Raises:
        ConfigError: A reward isn't known.
        DataError: The rows have no tokens to measure it on.
    """

    def __init__(
        self,
        rows: Dataset,
        groups: Groups,
        config: HBOConfig,
        *,
        pad_token_id: int,
        seed: int = 0,
        opening: Sequence[int] = (),
        training_tokens: int | None = None,
    ) -> None:
        self.rows, self.groups, self.config = rows, groups, config
        self.pad_token_id, self.seed = pad_token_id, seed
        self.functions = reward_functions(config)
        missing = [name for name in ("input_ids", "labels") if name not in rows.column_names]
        if missing and not config.is_static:
            raise DataError(
                f"the training rows have no column {missing[0]}, on which rewards are measured; let SFTTrainer prepare "
                "them, or give build_mixture a tokenizer"
            )
        # What is measured: rows, or the examples packed in them; pool, probes and reference hold the numbers of these.
        packed = PackedExamples(rows) if PACKED in rows.column_names else None
        self.examples: Dataset | PackedExamples = rows if packed is None else packed
        numbers = (lambda chosen: chosen) if packed is None else packed.of_rows
        self.pool = pool_of(groups, config, seed, numbers)
        self.reference: dict[int, float] = {}
        self.reference_alone: dict[int, float] = {}
        self._opening = np.asarray(opening, dtype=np.int64)
        self.facts: Facts | None = None
        self.sizing = Sizing(config.probe_tokens, training_tokens)

    @property
    def room(self) -> Room:
        """Tokens per batch."""
        return self.sizing.room

    def passes(self, processes: Processes) -> Passes:
        """Passes over what is measured."""
        return Passes(self.examples, self.pad_token_id, self.room, processes)

    def settle(self, model: nn.Module, processes: Processes = ALONE) -> str:
        """Finds out how the model is measured, and measures the longest row of the pool; what came out, in a sentence.

        Whatever an update needs is tried here, before the first step, on every process.

        Raises:
            RewardError: A reward can't be measured on this model, or a single row doesn't fit into memory.
        """
        read, pool = reader(self.examples), np.concatenate(self.pool)
        length_P = np.array([len(ids) for ids, _ in read(pool)])
        self.sizing.longest = int(length_P.max(initial=1))
        if "gradient_norm" in needs(*self.functions):
            few = pool[np.argsort(length_P, kind="stable")[:_TRIED]]
            found = settle(model, pad(read(few), self.pad_token_id), processes.from_first)
            self.facts = Facts.from_json(processes.from_first(found.to_json()))
        longest = pool[np.argmax(length_P)][None]
        with self.sizing.watching(device_of(model)):
            self.values(model, longest, self.functions)
        return self.facts.sentence() if self.facts else "rewards are measured for a whole batch in one pass"

    def measure_reference(self, model: nn.Module, processes: Processes = ALONE) -> None:
        """Notes the loss of every row of the pool under `model`, which must be the untuned one."""
        pool = np.concatenate(self.pool)
        if "hbo_reference" in self.rows.column_names:
            losses = self._stored_reference(pool)
        else:
            losses = self._losses(model, self.examples, pool, processes)
        self.reference = dict(zip(pool.tolist(), losses.tolist(), strict=True))
        if "without_instruction" in needs(*self.functions):
            rows = [
                dict(zip(("input_ids", "labels"), row, strict=True)) for row in self._alone(reader(self.examples)(pool))
            ]
            losses = self._losses(model, rows, np.arange(len(rows)), processes)
            self.reference_alone = dict(zip(pool.tolist(), losses.tolist(), strict=True))

    def _losses(
        self, model: nn.Module, rows: TokenRows | PackedExamples, number_P: Ints, processes: Processes
    ) -> Floats:
        scorer, room = Scorer(model), Room.of(model, self.config.probe_tokens)
        room.tokens = processes.least(room.tokens)

        def losses(rows_B: Ints, batch: Batch) -> Floats:
            return np.asarray(scorer.losses(batch).cpu().double().numpy()[None])

        return np.asarray(Passes(rows, self.pad_token_id, room, processes).over(model, number_P, losses, 1)[0])

    def _alone(self, rows: Sequence[TokenRow]) -> list[TokenRow]:
        return [without_instruction(row, self._opening) for row in rows]

    def state_dict(self) -> dict[str, Any]:
        """The reference losses, and how the model is measured, as JSON values."""
        return {
            "reference": list(self.reference.items()),
            "reference_alone": list(self.reference_alone.items()),
            "facts": self.facts.to_json() if self.facts else None,
            "sizing": self.sizing.to_json(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.reference = {int(row): loss for row, loss in state["reference"]}
        self.reference_alone = {int(row): loss for row, loss in state["reference_alone"]}
        self.facts = Facts.from_json(state["facts"]) if state["facts"] else None
        self.sizing.load(state["sizing"])

    def _stored_reference(self, pool: Ints) -> Floats:
        if isinstance(self.examples, Dataset):
            return np.asarray(self.examples.select(pool).with_format("numpy")["hbo_reference"], dtype=np.float64)
        return np.array([self.examples[number]["hbo_reference"] for number in pool.tolist()], dtype=np.float64)

    def probes(self, step: int) -> list[Ints]:
        """The rows that the update at `step` looks at, one array per group."""
        return probes_of(self.pool, self.config, self.groups.levels, self.seed, step)

    def measure(self, model: nn.Module, step: int, processes: Processes = ALONE) -> Rewards:
        """Both rewards on `model` as it stands, on the probes of `step`; gradients, modes, random streams stay."""
        cells = self.probes(step)
        functions = due_functions(self.functions, self.config, step)
        value_2P = self.values(model, np.concatenate(cells), functions, processes)
        return rewards_of_probes(self.groups, cells, value_2P, functions)

    def values(
        self, model: nn.Module, probe_P: Ints, functions: Sequence[Reward | None], processes: Processes = ALONE
    ) -> Floats:
        """What each of the F reward functions gives for each of these rows (F, P); as `measure` otherwise."""
        wants_norms = "gradient_norm" in needs(*functions)
        if wants_norms and self.facts is None:
            self.settle(model, processes)
        self.sizing.decide(device_of(model), processes)
        findings: list[str] = []
        scorer = Scorer(model)  # one, since it looks at the head in its first batch only

        def measure(rows_B: Ints, batch: Batch) -> Floats:
            try:
                return self._measure_batch(model, rows_B, batch, functions, scorer)
            except Uncovered as finding:
                findings.append(str(finding))
                return np.full((len(functions), len(rows_B)), np.nan)

        def measured(*, alike: bool) -> Floats:
            return self.passes(processes).over(model, probe_P, measure, len(functions), alike=alike)

        if not wants_norms or self.facts is None or is_whole(model):
            return measured(alike=False)  # a finding of such a model was dealt with inside, by this process alone
        if self.facts.batched:
            value_FP = measured(alike=False)
            if not processes.any(bool(findings)):
                return value_FP
            # All processes turn to single rows together: each needs the others for every pass.
            self.facts.batched, self.facts.why = False, (findings or ["another process says why"])[0]
            self.facts = Facts.from_json(processes.from_first(self.facts.to_json()))
            warnings.warn(self.facts.sentence(), stacklevel=2)
        return measured(alike=True)

    def _measure_batch(
        self, model: nn.Module, rows_B: Ints, batch: Batch, functions: Sequence[Reward | None], scorer: Scorer
    ) -> Floats:
        context: dict[str, Any] = {}
        wanted = needs(*functions)
        if "gradient_norm" in wanted:
            context["gradient_norm"], context["loss"] = gradient_norms_and_losses(model, batch, facts=self.facts)
        else:
            context["loss"] = scorer.losses(batch)
        if "without_instruction" in wanted:
            without = pad(self._alone([(row, row) for row in batch["labels"].numpy()]), self.pad_token_id)
            context["loss_alone"] = scorer.losses(without)
        device = context["loss"].device
        context["loss"] = context["loss"].double()
        for name, known in (("reference", self.reference), ("reference_alone", self.reference_alone)):
            values = torch.tensor([known.get(row, np.nan) for row in rows_B.tolist()], dtype=torch.float64)
            context[name] = values.to(device, non_blocking=True)
        found_FB = np.full((len(functions), len(rows_B)), np.nan)
        asked = {tier: function for tier, function in enumerate(functions) if function is not None}
        if asked:  # all that the host must know of the batch comes at once
            values_B = [value_of(each, model, batch, context, len(rows_B)).to(device) for each in asked.values()]
            found_FB[list(asked)] = torch.stack(values_B).cpu().numpy()
        return found_FB


def due_functions(functions: Functions, config: HBOConfig, step: int) -> Functions:
    """Those of the two functions that an update after `step` asks for."""
    is_due = config.measured(step)
    return functions[0] if is_due[0] else None, functions[1] if is_due[1] else None


def rewards_of_probes(groups: Groups, cells: list[Ints], value_2P: Floats, functions: Functions) -> Rewards:
    """The rewards of both levels, from what the probes of each group have shown; NaN is no measurement."""
    mean = np.full((2, len(cells)), np.nan)
    variance = np.full((2, len(cells)), np.nan)  # of the mean
    borders = np.cumsum([len(rows) for rows in cells])[:-1]
    for cell, value_2C in enumerate(np.split(value_2P, borders, axis=1)):
        for tier in range(2):
            seen = value_2C[tier][np.isfinite(value_2C[tier])]
            if len(seen):
                with np.errstate(over="ignore", invalid="ignore"):  # what overflows is skipped by the update
                    mean[tier, cell] = seen.mean()
                    variance[tier, cell] = seen.var(ddof=1) / len(seen) if len(seen) > 1 else np.nan
    return rewards_of(groups, mean, variance, functions, examples=int(value_2P.shape[1]))


def rewards_of(groups: Groups, mean_2C: Floats, variance_2C: Floats, functions: Functions, *, examples: int) -> Rewards:
    """The rewards of both levels, from each group's mean and the variance of that mean; NaN where nothing was seen.

    A dataset's reward is the mean of its groups', each weighted by its examples. A level without a function has none.
    """
    shape = len(groups.datasets), groups.levels
    mean_KL, variance_KL = mean_2C.reshape(2, *shape), variance_2C.reshape(2, *shape)
    share_KL = np.where(np.isfinite(mean_KL[0]), groups.examples_KL, 0).astype(np.float64)
    total_K = share_KL.sum(axis=1, keepdims=True)
    share_KL = np.divide(share_KL, total_K, out=np.full_like(share_KL, np.nan), where=total_K > 0)
    of_datasets, of_groups = (function is not None for function in functions)
    return Rewards(
        global_K=_weighted(share_KL, mean_KL[0]) if of_datasets else None,
        local_KL=mean_KL[1] if of_groups else None,
        global_se_K=np.sqrt(_weighted(share_KL**2, variance_KL[0])) if of_datasets else None,
        local_se_KL=np.sqrt(variance_KL[1]) if of_groups else None,
        examples=examples,
    )


def value_of(function: Reward, model: nn.Module | None, batch: Any, context: dict[str, Any], rows: int) -> torch.Tensor:
    """What a reward gives for each row (B,), in fp64.

    Raises:
        RewardError: A user's own one failed, or gave something else.
    """
    name = f"the reward {function.__module__}:{getattr(function, '__qualname__', type(function).__name__)}"
    try:
        value = function(model, batch, **context)
    except Exception as error:
        if spec_of(function):
            raise
        raise RewardError(f"{name} failed ({type(error).__name__}: {error}); fix it, or choose another") from error
    if not isinstance(value, torch.Tensor) or value.shape != (rows,) or value.is_complex():
        shape = list(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise RewardError(f"{name} gave {shape} for {rows} rows; it must return a tensor with one number per row")
    return value.detach().double()


def _weighted(weight_KL: Floats, value_KL: Floats) -> Floats:
    total: Floats = np.where(weight_KL == 0, 0.0, weight_KL * value_KL).sum(axis=1)
    return total
