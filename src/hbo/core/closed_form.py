"""Actors of methods beyond the paper, which answer the rewards in closed form: no learning rate, no steps.

Rewards are the datasets' losses in all three; by default those of the probes, with `rewards: stream` those that
training shows anyway, which then cost nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hbo.core.actors import Actor, checked_prior, checked_reward

Floats = NDArray[np.float64]


class LossSoftmaxActor:
    """p = softmax(loss / T) with T = 1, over the choices that the prior doesn't rule out.

    The simplest dynamic mixture, as proposed for ms-swift (github.com/modelscope/ms-swift, issue 9142). It forgets the
    prior, and itself, at every update.
    """

    temperature = 1.0

    def __init__(self, prior: ArrayLike) -> None:
        self.prior = checked_prior(prior)
        self._policy = self.prior.copy()

    @property
    def policy(self) -> Floats:
        """Probabilities (C,)."""
        return self._policy.copy()

    def learn(self, reward: ArrayLike) -> None:
        """The new policy is the softmax of these rewards.

        Raises:
            RewardError: A reward is not a finite number.
        """
        R = checked_reward(reward, len(self.prior)) / self.temperature
        weight = np.exp(np.where(self.prior > 0, R - R[self.prior > 0].max(), -np.inf))
        self._policy = weight / weight.sum()

    def state_dict(self) -> dict[str, Any]:
        """The policy."""
        return {"prior": self.prior.tolist(), "policy": self._policy.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo of `state_dict`."""
        self.prior = np.array(state["prior"], dtype=np.float64)
        self._policy = np.array(state["policy"], dtype=np.float64)


class Exp3Actor:
    """Exp3 with every arm observed: w_i ← w_i · exp(η R_i / (π_i C)), π = (1 − γ) w / Σw + γ / C.

    After Auer et al. 2002 and IBM's online data mixing (fms-acceleration), with its γ = 0.1 and η = 0.3. Its fixed
    point is p ∝ R too, but for γ. Weights are renormalised at every update, so that they can't overflow; the
    exploration is spread over the choices that the prior doesn't rule out.
    """

    gamma, eta = 0.1, 0.3

    def __init__(self, prior: ArrayLike) -> None:
        self.prior = checked_prior(prior)
        self.weight = self.prior.copy()
        self._moved = False

    @property
    def policy(self) -> Floats:
        """Probabilities (C,): the prior until the first update."""
        if not self._moved:
            return self.prior.copy()
        known = self.prior > 0
        mixed: Floats = (1 - self.gamma) * self.weight + self.gamma * known / known.sum()
        mixed /= mixed.sum()
        return mixed

    def learn(self, reward: ArrayLike) -> None:
        """One multiplicative step.

        Raises:
            RewardError: A reward is not a finite number.
        """
        R, known = checked_reward(reward, len(self.prior)), self.prior > 0
        step = np.where(known, self.eta * R / (np.where(known, self.policy, 1.0) * known.sum()), -np.inf)
        weight = self.weight * np.exp(step - step.max())
        # What has underflowed to 0 could never rise again.
        weight = np.where(known, np.maximum(weight / weight.sum(), np.finfo(np.float64).tiny), 0.0)
        self.weight, self._moved = weight / weight.sum(), True

    def state_dict(self) -> dict[str, Any]:
        """The weights."""
        return {"prior": self.prior.tolist(), "weight": self.weight.tolist(), "moved": self._moved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo of `state_dict`."""
        self.prior = np.array(state["prior"], dtype=np.float64)
        self.weight = np.array(state["weight"], dtype=np.float64)
        self._moved = bool(state["moved"])


class ODMActor:
    """Online Data Mixing in its group form: R̂ ← 0.9 R̂ + 0.1 exp(loss), π = (1 − C ε) R̂ / ΣR̂ + ε.

    After Albalak et al. 2023, "Efficient Online Data Mixing For Language Model Pre-Training", in the form that its
    scripts use; ε_t = min(1/C, √(ln C / (C t))) at the t-th update, R̂ = 0 at first.
    """

    def __init__(self, prior: ArrayLike) -> None:
        self.prior = checked_prior(prior)
        self.time = 0
        self.mean = np.zeros(len(self.prior))

    @property
    def policy(self) -> Floats:
        """Probabilities (C,): the prior until the first update."""
        if not self.time:
            return self.prior.copy()
        known = self.prior > 0
        C = int(known.sum())
        epsilon = min(1 / C, np.sqrt(np.log(C) / (C * self.time)))
        mixed: Floats = np.where(known, (1 - C * epsilon) * self.mean / self.mean[known].sum() + epsilon, 0.0)
        mixed /= mixed.sum()
        return mixed

    def learn(self, reward: ArrayLike) -> None:
        """One step of the average.

        Raises:
            RewardError: A reward is not a finite number.
        """
        loss = np.minimum(checked_reward(reward, len(self.prior)), 100.0)  # beyond it exp leaves nothing of the others
        self.time += 1
        self.mean += 0.1 * (np.where(self.prior > 0, np.exp(loss), 0.0) - self.mean)

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of updates."""
        return {"prior": self.prior.tolist(), "mean": self.mean.tolist(), "time": self.time}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo of `state_dict`."""
        self.prior = np.array(state["prior"], dtype=np.float64)
        self.mean = np.array(state["mean"], dtype=np.float64)
        self.time = int(state["time"])


class Smoothed:
    """An actor that learns from a moving average of its rewards: R̄ ← ema · R + (1 − ema) · R̄, R̄ = 1 at first.

    MoS's learning trajectory (Wu, Vu, Qu & Haffari 2024), with ema = 0.9 there.
    """

    def __init__(self, actor: Actor, ema: float) -> None:
        self.actor, self.ema = actor, ema
        self.mean = np.ones(len(actor.policy))

    @property
    def policy(self) -> Floats:
        """Probabilities (C,)."""
        return self.actor.policy

    def learn(self, reward: ArrayLike) -> None:
        """One update of the actor from the new average.

        Raises:
            RewardError: A reward is not a finite number.
        """
        self.mean = self.ema * checked_reward(reward, len(self.mean)) + (1 - self.ema) * self.mean
        self.actor.learn(self.mean)

    def state_dict(self) -> dict[str, Any]:
        """The average beside the actor."""
        return {"mean": self.mean.tolist(), "actor": self.actor.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo of `state_dict`."""
        self.mean = np.array(state["mean"], dtype=np.float64)
        self.actor.load_state_dict(state["actor"])
