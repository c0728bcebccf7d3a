"""Hierarchical Balancing Optimization, whole (Wang, Wu, Haddow & Birch 2025, arXiv 2505.12300).

The loop, with the paper's symbols (Algorithm 1); K datasets D_i, L levels D_ij each, model θ, steps t:

    p_K  ← prior, p(i) ∝ n_i^(1/τ)                                  temperature_prior, Eq. 3
    q_KL ← sizes of the levels inside each dataset                  HBO.__init__
    for t = 1 … T:
        for every row of the step's batch:
            draw i ~ p_K, then j ~ q_KL[i], then a row of D_ij      core.stream, Eq. 5
        a step of θ on these rows                                   the trainer
        if t mod F = 0:                                             HBO.is_due
            R_g(i)   = ‖∇_θ L(B_i; θ)‖₂                             rewards.gradients, Eq. 7
            R_l(i,j) = mean_k PPL_k(θ) / PPL_k(θ₀)                  rewards.probe, Eq. 8
            ψ_g ← ψ_g + γ Σ_i R_g(i) ∇ log p(i)                     HBO.update: core.actors, Eq. 6
            ψ_i ← ψ_i + γ Σ_j R_l(i,j) ∇ log q_i(j)   for every i
            from row (t + 1 + lag) · batch on,                      core.ledger
                p_K, q_KL are what the actors hold                  HBO.p_K, HBO.q_KL

Each update moves every actor towards p ∝ reward, its only fixed point (derived in `core.actors`). A level whose reward
is None is frozen; a flat method has one actor over all K·L groups. Nothing here draws a random number except by key
(`core.keys`), so (seed, position, ledger) determine it all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hbo.arrays import Floats
from hbo.config import HBOConfig
from hbo.config.rewards import is_signed
from hbo.core.actors import Actor, actor_of
from hbo.core.groups import Groups
from hbo.core.ledger import Entry, Ledger
from hbo.core.placebo import takers_of
from hbo.core.prior import check_floor, floored, temperature_prior, weighted_prior
from hbo.core.stream import Stream
from hbo.errors import ResumeError, RewardError

_LARGEST = 1e100  # a reward above it is as good as infinite: its square, which the actors' optimizer keeps, overflows
_TINY = np.finfo(np.float64).tiny

__all__ = ["HBO", "Rewards", "temperature_prior"]


@dataclass(frozen=True)
class Rewards:
    """The result of one measurement: NaN where a choice couldn't be measured, None where its level is frozen.

    Attributes:
        global_K: Reward of each dataset.
        local_KL: Reward of each level inside its dataset.
        global_se_K, local_se_KL: Standard errors over the probes.
        examples: Rows measured.
    """

    global_K: Floats | None = None
    local_KL: Floats | None = None
    global_se_K: Floats | None = None
    local_se_KL: Floats | None = None
    examples: int = 0

    def dealt_out(self, seed: int, step: int) -> Rewards:
        """The same rewards, each with its error, shuffled among the choices (`hbo.core.placebo`)."""
        order_K, order_KL = takers_of(self.global_K, self.local_KL, seed, step)

        def of_datasets(value_K: Floats | None) -> Floats | None:
            return None if value_K is None else value_K[order_K]

        def of_groups(value_KL: Floats | None) -> Floats | None:
            return None if value_KL is None else np.take_along_axis(value_KL, order_KL, axis=1)

        return Rewards(
            of_datasets(self.global_K),
            of_groups(self.local_KL),
            of_datasets(self.global_se_K),
            of_groups(self.local_se_KL),
            self.examples,
        )


class HBO:
    """The balancer: prior, actors, ledger and stream of one mixture.

    Args:
        groups: Rows of every dataset and level.
        config: Method and settings.
        weights: Dataset → relative share at the start, instead of one by its size (τ then doesn't apply to it).
        actor: Makes an actor from a prior (C,); absent: `config.actor`.
        seed: Seed of all draws.
        max_passes: How often each row may be drawn at most.

    Raises:
        ConfigError: A weight names no dataset, the floor leaves no room, or `max_passes` is below 1.

    Example:
        >>> groups = Groups.from_columns(["a"] * 6 + ["b"] * 2, [0, 1] * 4)
        >>> balancer = HBO(groups, HBOConfig(update_every=1))
        >>> balancer.p_K.tolist()
        [0.75, 0.25]
        >>> entry = balancer.update(Rewards(global_K=np.array([1.0, 2.0])), step=1, start=16)
        >>> bool(entry.p_K[1] > 0.25)
        True
    """

    def __init__(
        self,
        groups: Groups,
        config: HBOConfig | None = None,
        *,
        weights: Mapping[str, float] | None = None,
        actor: Callable[[Floats], Actor] | None = None,
        seed: int = 0,
        max_passes: int | None = None,
    ) -> None:
        self.groups = groups
        self.config = config or HBOConfig()
        check_floor(self.config.min_probability, len(groups.datasets), groups.levels)
        self._make = make = actor or partial(actor_of, self.config.actor)
        sizes = dict(zip(groups.datasets, groups.examples_KL.sum(axis=1).tolist(), strict=True))
        self.prior_K = weighted_prior(sizes, self.config.temperature, weights or {})
        # A dataset can have lost a whole level to the trainer's own filters; a level without rows starts at 0.
        sizes_KL = groups.examples_KL.astype(np.float64)
        levels = [n_L / n_L.sum() if n_L.any() else np.full(len(n_L), 1 / len(n_L)) for n_L in sizes_KL]
        if self.config.is_flat:
            self.global_actor, self.local_actors = make((self.prior_K[:, None] * np.stack(levels)).ravel()), []
        else:
            self.global_actor, self.local_actors = make(self.prior_K), [make(prior_L) for prior_L in levels]
        self.skipped = 0
        """How many rewards couldn't be measured so far."""
        self._loaded = self._settings()
        self.ledger = Ledger(groups.datasets, [Entry(0, 0, self.p_K, self.q_KL, per_row_KL=groups.per_row_KL)])
        stratified = self.config.is_stratified
        self.stream = Stream(groups, self.ledger, seed, stratified=stratified, max_passes=max_passes)

    @property
    def p_K(self) -> Floats:
        """Current probabilities of the datasets, with the floor applied."""
        policy = self.global_actor.policy
        p_K = policy.reshape(self.groups.sizes_KL.shape).sum(axis=1) if self.config.is_flat else policy
        return floored(p_K, self.config.min_probability)

    @property
    def q_KL(self) -> Floats:
        """Current probabilities of the levels inside each dataset, with the floor applied."""
        if self.config.is_flat:
            cell_KL = self.global_actor.policy.reshape(self.groups.sizes_KL.shape)
            inside_KL = cell_KL / cell_KL.sum(axis=1, keepdims=True)
        else:
            inside_KL = np.stack([actor.policy for actor in self.local_actors])
        return np.stack([floored(q_L, self.config.min_probability) for q_L in inside_KL])

    def is_due(self, step: int) -> bool:
        """Whether rewards must be measured after optimizer step `step` (counted from 1)."""
        return any(self.config.due(step))

    def update(
        self, rewards: Rewards, *, step: int, start: int, drawn_KL: ArrayLike | None = None, seconds: float = 0.0
    ) -> Entry:
        """Lets every actor learn from its rewards, and returns the ledger's new entry.

        Args:
            rewards: Measured on the model as it stands after `step`.
            step: Optimizer steps done.
            start: Position in the stream from which the new probabilities apply.
            drawn_KL: Rows consumed since the last entry.
            seconds: How long measuring took.

        Raises:
            RewardError: There isn't one reward per dataset or group.
        """
        config = self.config
        for value, like in ((rewards.global_K, self.groups.sizes_K), (rewards.local_KL, self.groups.sizes_KL)):
            if value is not None and np.shape(value) != like.shape:
                raise RewardError(
                    f"rewards have the shape {np.shape(value)}, but {like.shape} is needed, one per choice"
                )
        if config.is_placebo:
            rewards = rewards.dealt_out(self.stream.seed, step)
        global_K, local_KL = rewards.global_K, rewards.local_KL
        if global_K is not None and config.global_reward is not None:
            self._learn(self.global_actor, global_K, is_signed=is_signed(config.global_reward))
        local_is_signed = is_signed(config.local_reward)
        if local_KL is not None and config.is_flat:
            self._learn(self.global_actor, local_KL.ravel(), is_signed=local_is_signed)
        elif local_KL is not None and config.local_reward is not None:
            for actor, reward_L in zip(self.local_actors, local_KL, strict=True):
                self._learn(actor, relative(reward_L), is_signed=local_is_signed)
        entry = Entry(
            step=step,
            start=start,
            p_K=self.p_K,
            q_KL=self.q_KL,
            global_reward_K=global_K,
            local_reward_KL=local_KL,
            global_se_K=rewards.global_se_K,
            local_se_KL=rewards.local_se_KL,
            drawn_KL=None if drawn_KL is None else np.asarray(drawn_KL, dtype=np.int64),
            seconds=seconds,
            probe_examples=rewards.examples,
        )
        self.ledger.append(entry)
        return entry

    def _learn(self, actor: Actor, reward_C: Floats, *, is_signed: bool) -> None:
        # A reward that may be negative keeps its sign; any other at or below 0 is no measurement.
        usable, p_C = (np.abs(reward_C) <= _LARGEST) if is_signed else _usable(reward_C), actor.policy
        self.skipped += int((~usable & (p_C > 0)).sum())  # a level without rows has nothing to measure
        if not p_C[usable].sum():
            return  # nothing was learned about any choice
        # A choice that couldn't be measured gets the reward that its own probability is the fixed point of, so that
        # the others' news doesn't push it.
        with np.errstate(over="ignore"):
            filled = np.where(usable, reward_C, p_C * min(reward_C[usable].sum() / p_C[usable].sum(), _LARGEST))
        actor.learn(filled if is_signed else np.maximum(filled, _TINY))

    def restage(self, *, step: int, start: int, drawn_KL: ArrayLike) -> Entry | None:
        """Begins a new stage if the loaded state was saved with other settings, and returns its entry; else None.

        Weights, `min_probability` and `update_every` may change when a run is resumed. New weights multiply what the
        global actor has learned: a fresh actor starts at p ∝ p · new prior / old prior.

        Args:
            step: Optimizer steps done.
            start: First position in the stream that is not drawn yet.
            drawn_KL: Rows consumed since the last entry.
        """
        now, then = self._settings(), self._loaded
        changed = tuple(name for name in now if now[name] != then[name])
        if not changed:
            return None
        if "weights" in changed:
            ratio_K = self.prior_K / np.array(then["weights"])
            policy = self.global_actor.policy
            p_C = policy * np.repeat(ratio_K, len(policy) // len(ratio_K))
            self.global_actor = self._make(p_C / p_C.sum())
        drawn_KL = np.asarray(drawn_KL, dtype=np.int64)
        start = max(start, self.ledger[-1].start)  # an update that waits for its start goes before
        entry = Entry(step, start, self.p_K, self.q_KL, drawn_KL=drawn_KL, changed=changed)
        self.ledger.append(entry)
        self._loaded = now
        return entry

    def _settings(self) -> dict[str, Any]:
        floor, every = self.config.min_probability, self.config.update_every
        return {"weights": self.prior_K.tolist(), "min_probability": floor, "update_every": every}

    def state_dict(self) -> dict[str, Any]:
        """The actors with their optimizers, and the ledger, as plain JSON values."""
        return {
            "global_actor": self.global_actor.state_dict(),
            "local_actors": [actor.state_dict() for actor in self.local_actors],
            "ledger": self.ledger.records(),
            "skipped": self.skipped,
            "sizes": self.groups.sizes_KL.tolist(),
            "datasets": list(self.groups.datasets),
            "seed": self.stream.seed,
            "max_passes": self.stream.max_passes,
            "order": self.groups.digest,
            "actor": self.config.actor.model_dump(),
            "settings": self._settings(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned.

        Raises:
            ResumeError: The state belongs to another mixture, seed or actor.
        """
        mine = self.state_dict()
        if missing := [name for name in mine if name not in state]:
            raise ResumeError(f"the state has no {missing[0]}, so another version of hbo wrote it; begin a new run")
        for what in ("datasets", "sizes", "seed", "actor", "max_passes"):
            if mine[what] != state[what]:
                raise ResumeError(
                    f"{what}: {state[what]} in the checkpoint, but {mine[what]} now; resume with the data and "
                    "settings of the first start, or begin a new run"
                )
        if mine["order"] != state["order"]:
            raise ResumeError(
                "rows are in other difficulty groups than when the checkpoint was written, although the groups "
                "have the same sizes; resume with the data and the scores of the first start, or begin a new run"
            )
        self.global_actor.load_state_dict(state["global_actor"])
        for actor, saved in zip(self.local_actors, state["local_actors"], strict=True):
            actor.load_state_dict(saved)
        self.skipped = int(state["skipped"])
        self._loaded = state["settings"]
        self.ledger = Ledger.from_records(state["ledger"], self.groups.datasets)
        self.stream = self.stream.following(self.ledger)


def relative(reward_C: Floats) -> Floats:
    """Rewards divided by their mean, so that their scale doesn't matter; those that couldn't be measured stay NaN."""
    known_C = reward_C[_usable(reward_C)]
    with np.errstate(over="ignore", under="ignore"):
        return reward_C / known_C.mean() if len(known_C) else reward_C


def _usable(reward_C: Floats) -> NDArray[np.bool_]:
    return (reward_C > 0) & (reward_C <= _LARGEST)
