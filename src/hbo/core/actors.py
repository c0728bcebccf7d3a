"""Actors: probabilities over a few choices, moved by rewards.

An actor is anything with `policy`, `learn`, `state_dict` and `load_state_dict`. All three here start exactly at
their prior and have the same fixed point.

**Why p ∝ reward.** REINFORCE (Eq. 6 of the paper) with every choice enumerated once per update, as the paper's
Algorithm 1 and the authors' code do, descends L = −Σ_i R_i log p_i with R held fixed. For p = softmax(z),
∂ log p_i/∂z_k = [i = k] − p_k, hence ∂L/∂z_k = p_k·ΣR − R_k. This is zero for all k exactly when p_k = R_k/ΣR, and L
is convex in z, so the point is unique: the actor is a slow average of the normalised rewards. It is *not* the gradient
of E_p[R], whose optimum is all mass on the best choice: that one would weigh each term by p_i.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hbo.errors import ConfigError, RewardError

Floats = NDArray[np.float64]


class Actor(Protocol):
    """What `HBO` asks of an actor over C choices."""

    @property
    def policy(self) -> Floats:
        """Probabilities (C,), summing to 1."""

    def learn(self, reward: ArrayLike) -> None:
        """One update from the rewards (C,) of all choices, measured on the same model."""

    def state_dict(self) -> dict[str, Any]:
        """All that `learn` changes, as plain JSON values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo of `state_dict`."""


class Adam:
    """Adam (Kingma & Ba 2015, β = 0.9, 0.999, ε = 1e-8) on one flat vector, moments kept between updates."""

    def __init__(self, size: int, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.time = 0
        self.mean = np.zeros(size)
        self.square = np.zeros(size)

    def step(self, parameter: Floats, gradient: Floats) -> None:
        """Moves `parameter` in place."""
        self.time += 1
        self.mean += 0.1 * (gradient - self.mean)
        self.square += 0.001 * (gradient * gradient - self.square)
        mean = self.mean / (1 - 0.9**self.time)
        square = self.square / (1 - 0.999**self.time)
        parameter -= self.learning_rate * mean / (np.sqrt(square) + 1e-8)

    def state_dict(self) -> dict[str, Any]:
        """Time and both moments."""
        return {"time": self.time, "mean": self.mean.tolist(), "square": self.square.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo of `state_dict`."""
        self.time = int(state["time"])
        self.mean = np.array(state["mean"], dtype=np.float64)
        self.square = np.array(state["square"], dtype=np.float64)


class SoftmaxActor:
    """One logit per choice, as in the authors' code; the default.

    With Adam at 1e-4 and 200 steps a logit moves by about 0.02 per update.

    Example:
        >>> actor = SoftmaxActor([0.5, 0.5], learning_rate=1e-2)
        >>> for _ in range(50):
        ...     actor.learn([1.0, 3.0])
        >>> actor.policy.round(2).tolist()
        [0.25, 0.75]
    """

    def __init__(self, prior: ArrayLike, learning_rate: float = 1e-4, steps: int = 200) -> None:
        self.prior = checked_prior(prior)
        self.steps = steps
        # The logits relative to log prior: all zero is the prior to the last bit, and a choice of prior 0 stays there.
        self.delta = np.zeros(len(self.prior))
        self.adam = Adam(len(self.prior), learning_rate)

    @property
    def policy(self) -> Floats:
        """Probabilities (C,)."""
        return _tilted(self.prior, self.delta)

    def learn(self, reward: ArrayLike) -> None:
        """`steps` Adam steps on −Σ R_i log p_i.

        Raises:
            RewardError: A reward is not a finite number.
        """
        R = checked_reward(reward, len(self.prior))
        R[self.prior == 0] = 0.0  # its logit could rise forever and never be heard
        total = R.sum()
        for _ in range(self.steps):
            self.adam.step(self.delta, self.policy * total - R)

    def state_dict(self) -> dict[str, Any]:
        """Logits relative to the prior, and Adam."""
        return {"prior": self.prior.tolist(), "delta": self.delta.tolist(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo of `state_dict`."""
        self.prior = np.array(state["prior"], dtype=np.float64)
        self.delta = np.array(state["delta"], dtype=np.float64)
        self.adam.load_state_dict(state["adam"])


class MLPActor:
    """The paper's two layers on a constant input: logits = log prior + W₂ tanh(W₁·1 + b₁) + b₂.

    The second layer starts at zero, so the policy starts at the prior.
    """

    def __init__(
        self, prior: ArrayLike, learning_rate: float = 1e-4, steps: int = 200, hidden: int = 32, seed: int = 0
    ) -> None:
        self.prior = checked_prior(prior)
        self.steps = steps
        self.hidden = hidden
        C = len(self.prior)
        self.parameter = np.zeros(hidden * C + hidden + C * hidden + C)
        first = np.random.default_rng(seed).uniform(-1, 1, hidden * C) / np.sqrt(C)
        self.parameter[: hidden * C] = first
        self.adam = Adam(len(self.parameter), learning_rate)

    def _layers(self, flat: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        H, C = self.hidden, len(self.prior)
        W1, b1, W2, b2 = np.split(flat, np.cumsum([H * C, H, C * H]))
        return W1.reshape(H, C), b1, W2.reshape(C, H), b2

    @property
    def policy(self) -> Floats:
        """Probabilities (C,)."""
        W1, b1, W2, b2 = self._layers(self.parameter)
        return _tilted(self.prior, W2 @ np.tanh(W1.sum(axis=1) + b1) + b2)

    def learn(self, reward: ArrayLike) -> None:
        """`steps` Adam steps on −Σ R_i log p_i, through both layers.

        Raises:
            RewardError: A reward is not a finite number.
        """
        R = checked_reward(reward, len(self.prior))
        R[self.prior == 0] = 0.0  # its logit could rise forever and never be heard
        total = R.sum()
        for _ in range(self.steps):
            W1, b1, W2, b2 = self._layers(self.parameter)
            h = np.tanh(W1.sum(axis=1) + b1)
            g = _tilted(self.prior, W2 @ h + b2) * total - R
            g_h = (W2.T @ g) * (1 - h * h)
            gradient = np.concatenate([np.repeat(g_h, len(R)), g_h, np.outer(g, h).ravel(), g])
            self.adam.step(self.parameter, gradient)

    def state_dict(self) -> dict[str, Any]:
        """Both layers, and Adam."""
        return {"prior": self.prior.tolist(), "parameter": self.parameter.tolist(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo of `state_dict`."""
        self.prior = np.array(state["prior"], dtype=np.float64)
        self.parameter = np.array(state["parameter"], dtype=np.float64)
        self.adam.load_state_dict(state["adam"])


class TrackingActor:
    """The closed form (ours): p ← p^(1−rate) · (R/ΣR)^rate, renormalised.

    The distance to p ∝ R, in logs, shrinks by the factor 1 − rate per update, whatever the scale of R.
    """

    def __init__(self, prior: ArrayLike, rate: float = 0.5) -> None:
        self.prior = checked_prior(prior)
        if not 0 < rate <= 1:
            raise ConfigError(f"rate is {rate}; it must be above 0 and at most 1")
        self.rate = rate
        self._policy = self.prior.copy()

    @property
    def policy(self) -> Floats:
        """Probabilities (C,)."""
        return self._policy.copy()

    def learn(self, reward: ArrayLike) -> None:
        """One step towards p ∝ R.

        Raises:
            RewardError: A reward is not finite and positive (its logarithm is needed).
        """
        R = checked_reward(reward, len(self.prior))
        if (R <= 0).any():
            raise RewardError(f"the tracking actor needs rewards above 0, but one is {R.min():g}; use actor softmax")
        p = self._policy ** (1 - self.rate) * (R / R.sum()) ** self.rate
        p = np.maximum(p, np.finfo(np.float64).tiny)  # what has underflowed to 0 could never rise again
        p[self._policy == 0] = 0.0
        self._policy = p / p.sum()

    def state_dict(self) -> dict[str, Any]:
        """The policy."""
        return {"prior": self.prior.tolist(), "policy": self._policy.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo of `state_dict`."""
        self.prior = np.array(state["prior"], dtype=np.float64)
        self._policy = np.array(state["policy"], dtype=np.float64)


def _tilted(prior: Floats, delta: Floats) -> Floats:
    weight = prior * np.exp(np.minimum(delta - delta[prior > 0].max(), 0.0))
    # Scaled by a ratio of sums, which is exactly 1 while delta is 0, so that an unmoved actor is exactly at its prior.
    result: Floats = weight * (prior.sum() / weight.sum())
    return result


def checked_prior(prior: ArrayLike) -> Floats:
    """The prior as an array of its own.

    Raises:
        ConfigError: It isn't a list of probabilities.
    """
    p = np.array(prior, dtype=np.float64)
    if p.ndim != 1 or len(p) == 0 or not np.isfinite(p).all() or (p < 0).any() or abs(p.sum() - 1) > 1e-6:
        raise ConfigError(f"a prior is a list of probabilities that sum to 1, not {prior!r}")
    return p


def checked_reward(reward: ArrayLike, count: int) -> Floats:
    """The rewards as an array of their own.

    Raises:
        RewardError: One is not a finite number, or there are more or fewer than choices.
    """
    R = np.array(reward, dtype=np.float64)
    if R.shape != (count,) or not np.isfinite(R).all():
        raise RewardError(f"{count} finite rewards are needed, one per choice, not {reward!r}")
    return R
