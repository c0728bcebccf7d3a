"""Actors: probabilities over C choices, moved by rewards; `hbo.config.actors` lists them by name.

An actor is anything with `policy`, `learn`, `state_dict` and `load_state_dict`. All start exactly at their prior. The
paper's, and its closed form, have one fixed point:

**Why p ∝ reward.** REINFORCE (Eq. 6 of the paper) with every choice enumerated once per update, as the paper's
Algorithm 1 and the authors' code do, descends L = −Σ_i R_i log p_i with R held fixed. For p = softmax(z),
∂ log p_i/∂z_k = [i = k] − p_k, hence ∂L/∂z_k = p_k·ΣR − R_k. This is zero for all k exactly when p_k = R_k/ΣR, and L
is convex in z, so the point is unique: the actor is a slow average of the normalised rewards. It is *not* the gradient
of E_p[R], whose optimum is all mass on the best choice: that one would weigh each term by p_i.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike

from hbo.arrays import Floats
from hbo.config.actors import actor_spec
from hbo.config.balance import ActorConfig
from hbo.config.own_code import own_code
from hbo.core import closed_form
from hbo.errors import ConfigError, RewardError


class Actor(Protocol):
    """What a class needs to be an actor over C choices."""

    @property
    def policy(self) -> Floats:
        """Probabilities (C,), summing to 1."""

    def learn(self, reward: ArrayLike) -> None:
        """One update from the rewards (C,) of all choices, measured on the same model."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that `learn` changes, as plain JSON values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo of `state_dict`."""


class Saved:
    """State as plain JSON values: the fields that `saved` names, with all that they hold."""

    saved: ClassVar[tuple[str, ...]]

    def state_dict(self) -> dict[str, Any]:
        """All that `learn` changes."""
        return {name.lstrip("_"): _plain(getattr(self, name)) for name in self.saved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo of `state_dict`."""
        for name in self.saved:
            now, then = getattr(self, name), state[name.lstrip("_")]
            if isinstance(now, Saved):
                now.load_state_dict(then)
            elif isinstance(now, np.ndarray):
                setattr(self, name, np.array(then, dtype=np.float64))
            else:
                setattr(self, name, type(now)(then))


def _plain(value: Any) -> Any:
    if isinstance(value, Saved):
        return value.state_dict()
    return value.tolist() if isinstance(value, np.ndarray) else value


class Adam(Saved):
    """Adam (Kingma & Ba 2015, β = 0.9, 0.999, ε = 1e-8) on one flat vector, moments kept between updates."""

    saved = ("time", "mean", "square")

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


class SoftmaxActor(Saved):
    """One logit per choice, as in the authors' code; the default.

    With Adam at 1e-4 and 200 steps a logit moves by about 0.02 per update.

    Example:
        >>> actor = SoftmaxActor([0.5, 0.5], learning_rate=1e-2)
        >>> for _ in range(50):
        ...     actor.learn([1.0, 3.0])
        >>> actor.policy.round(2).tolist()
        [0.25, 0.75]
    """

    saved = ("prior", "delta", "adam")

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
        R = _heard(reward, self.prior)
        total = R.sum()
        for _ in range(self.steps):
            self.adam.step(self.delta, self.policy * total - R)


class MLPActor(Saved):
    """The paper's two layers on a constant input: logits = log prior + W₂ tanh(W₁·1 + b₁) + b₂.

    The second layer starts at zero, so the policy starts at the prior.
    """

    saved = ("prior", "parameter", "adam")

    def __init__(
        self, prior: ArrayLike, learning_rate: float = 1e-4, steps: int = 200, hidden: int = 32, seed: int = 0
    ) -> None:
        self.prior = checked_prior(prior)
        self.steps = steps
        self.hidden = hidden
        C = len(self.prior)
        self.parameter = np.zeros(hidden * C + hidden + C * hidden + C)
        self.parameter[: hidden * C] = np.random.default_rng(seed).uniform(-1, 1, hidden * C) / np.sqrt(C)
        self.adam = Adam(len(self.parameter), learning_rate)

    def _forward(self) -> tuple[Floats, Floats, Floats]:
        """The policy, the hidden units h and W₂, through which the gradient comes back."""
        H, C = self.hidden, len(self.prior)
        W1, b1, W2, b2 = np.split(self.parameter, np.cumsum([H * C, H, C * H]))
        h, W2 = np.tanh(W1.reshape(H, C).sum(axis=1) + b1), W2.reshape(C, H)
        return _tilted(self.prior, W2 @ h + b2), h, W2

    @property
    def policy(self) -> Floats:
        """Probabilities (C,)."""
        return self._forward()[0]

    def learn(self, reward: ArrayLike) -> None:
        """`steps` Adam steps on −Σ R_i log p_i, through both layers.

        Raises:
            RewardError: A reward is not a finite number.
        """
        R = _heard(reward, self.prior)
        total = R.sum()
        for _ in range(self.steps):
            p, h, W2 = self._forward()
            g = p * total - R
            g_h = (W2.T @ g) * (1 - h * h)
            gradient = np.concatenate([np.repeat(g_h, len(R)), g_h, np.outer(g, h).ravel(), g])
            self.adam.step(self.parameter, gradient)


class _Held(Saved):
    """An actor whose whole state is its policy."""

    saved = ("prior", "_policy")

    def __init__(self, prior: ArrayLike) -> None:
        self.prior = checked_prior(prior)
        self._policy = self.prior.copy()

    @property
    def policy(self) -> Floats:
        """Probabilities (C,)."""
        return self._policy.copy()


class TrackingActor(_Held):
    """The closed form (ours): p ← p^(1−rate) · (R/ΣR)^rate, renormalised."""

    def __init__(self, prior: ArrayLike, rate: float = 0.5) -> None:
        super().__init__(prior)
        if not 0 < rate <= 1:
            raise ConfigError(f"rate is {rate}; it must be above 0 and at most 1")
        self.rate = rate

    def learn(self, reward: ArrayLike) -> None:
        """One step towards p ∝ R.

        Raises:
            RewardError: A reward is not finite and positive (its logarithm is needed).
        """
        R = checked_reward(reward, len(self.prior))
        if (R <= 0).any():
            raise RewardError(f"the tracking actor needs rewards above 0, but one is {R.min():g}; use actor softmax")
        self._policy = closed_form.tracked(self._policy, R, self.rate)


class AnnealedActor(_Held):
    """`closed_form.annealed`; its reward is `elapsed`, the part of the run that is over."""

    def learn(self, reward: ArrayLike) -> None:
        """Sets the policy to the prior at this time's temperature; rewards must be finite."""
        self._policy = closed_form.annealed(self.prior, checked_reward(reward, len(self.prior)))


class LossSoftmaxActor(_Held):
    """`closed_form.loss_softmax`."""

    def learn(self, reward: ArrayLike) -> None:
        """Sets the policy to the softmax of these rewards, which must be finite."""
        self._policy = closed_form.loss_softmax(checked_reward(reward, len(self.prior)), self.prior > 0)


class Exp3Actor(Saved):
    """`closed_form.exp3_weights` and `exp3_policy`; the prior until the first update."""

    saved = ("prior", "weight", "_moved")

    def __init__(self, prior: ArrayLike) -> None:
        self.prior = checked_prior(prior)
        self.weight = self.prior.copy()
        self._moved = False

    @property
    def policy(self) -> Floats:
        """Probabilities (C,)."""
        return closed_form.exp3_policy(self.weight, self.prior > 0) if self._moved else self.prior.copy()

    def learn(self, reward: ArrayLike) -> None:
        """One multiplicative step; rewards must be finite."""
        R = checked_reward(reward, len(self.prior))
        self.weight = closed_form.exp3_weights(self.weight, R, self.prior > 0, self.policy)
        self._moved = True


class ODMActor(Saved):
    """`closed_form.odm_mean` and `odm_policy`; the prior until the first update."""

    saved = ("prior", "mean", "time")

    def __init__(self, prior: ArrayLike) -> None:
        self.prior = checked_prior(prior)
        self.time = 0
        self.mean = np.zeros(len(self.prior))

    @property
    def policy(self) -> Floats:
        """Probabilities (C,)."""
        return closed_form.odm_policy(self.mean, self.time, self.prior > 0) if self.time else self.prior.copy()

    def learn(self, reward: ArrayLike) -> None:
        """One step of the average; rewards must be finite."""
        self.mean = closed_form.odm_mean(self.mean, checked_reward(reward, len(self.prior)), self.prior > 0)
        self.time += 1


class Smoothed(Saved):
    """An actor that learns from a moving average of its rewards: R̄ ← ema · R + (1 − ema) · R̄, R̄ = 1 at first.

    MoS's learning trajectory (Wu, Vu, Qu & Haffari 2024), with ema = 0.9 there.
    """

    saved = ("mean", "actor")

    def __init__(self, actor: Actor, ema: float) -> None:
        self.actor, self.ema = actor, ema
        self.mean = np.ones(len(actor.policy))

    @property
    def policy(self) -> Floats:
        """Probabilities (C,)."""
        return self.actor.policy

    def learn(self, reward: ArrayLike) -> None:
        """One update of the actor from the new average; rewards must be finite."""
        self.mean = self.ema * checked_reward(reward, len(self.mean)) + (1 - self.ema) * self.mean
        self.actor.learn(self.mean)


def actor_class(kind: str) -> Callable[..., Actor]:
    """The class of the actor of this kind.

    Raises:
        ConfigError: It can't be imported.
    """
    made_by: Callable[..., Actor] = own_code("balance.actor.kind", actor_spec(kind).made_by, "class")
    return made_by


def actor_of(config: ActorConfig, prior: Floats) -> Actor:
    """The actor that `config` describes, starting at `prior` (C,); its class gets those settings that it takes.

    Raises:
        ConfigError: Its class can't be imported.

    Example:
        >>> actor_of(ActorConfig(kind="tracking"), np.array([0.5, 0.5])).policy.tolist()
        [0.5, 0.5]
    """
    made_by = actor_class(config.kind)
    settings = config.model_dump(exclude={"kind", "ema"})
    actor = made_by(prior, **{key: settings[key] for key in inspect.signature(made_by).parameters if key in settings})
    return actor if config.ema == 1 else Smoothed(actor, config.ema)


def _tilted(prior: Floats, delta: Floats) -> Floats:
    """p ∝ prior · exp(delta)."""
    weight = prior * np.exp(np.minimum(delta - delta[prior > 0].max(), 0.0))
    # Scaled by a ratio of sums, which is exactly 1 while delta is 0, so that an unmoved actor is exactly at its prior.
    tilted: Floats = weight * (prior.sum() / weight.sum())
    return tilted


def checked_prior(prior: ArrayLike) -> Floats:
    """The prior as a new array.

    Raises:
        ConfigError: It isn't a list of probabilities.
    """
    p = np.array(prior, dtype=np.float64)
    if p.ndim != 1 or len(p) == 0 or not np.isfinite(p).all() or (p < 0).any() or abs(p.sum() - 1) > 1e-6:
        raise ConfigError(f"a prior is a list of probabilities that sum to 1, not {prior!r}")
    return p


def checked_reward(reward: ArrayLike, count: int) -> Floats:
    """The rewards as a new array.

    Raises:
        RewardError: A reward is not a finite number, or there isn't one per choice.
    """
    R = np.array(reward, dtype=np.float64)
    if R.shape != (count,) or not np.isfinite(R).all():
        raise RewardError(f"{count} finite rewards are needed, one per choice, not {reward!r}")
    return R


def _heard(reward: ArrayLike, prior: Floats) -> Floats:
    R = checked_reward(reward, len(prior))
    R[prior == 0] = 0.0  # its logit could rise forever and never be heard
    return R
