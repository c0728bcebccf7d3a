"""What a user writes under `balance:`: the method, and how its actors learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from hbo.config.actors import ACTORS, actor_spec
from hbo.config.data import Temperature
from hbo.config.methods import SETTINGS, UPDATE_EVERY, method_of
from hbo.config.rewards import is_of_the_run, is_signed
from hbo.config.section import Section, shown, truth
from hbo.errors import ConfigError

TIERS: tuple[Literal["global", "local"], ...] = ("global", "local")
Steps = Annotated[int, Field(ge=1)]
RewardChoice = str | Callable[..., Any] | None


class ActorConfig(Section):
    """How an actor turns rewards into probabilities."""

    kind: str = "softmax"
    """A name of `hbo.config.actors.ACTORS`, or a class of your own, `pkg.module:Class`."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-4
    """Learning rate of Adam in the actors `softmax` and `mlp`."""
    steps: Annotated[int, Field(ge=1)] = 200
    """Adam steps per update, in the actors `softmax` and `mlp`."""
    hidden: Annotated[int, Field(ge=1)] = 32
    """Hidden units of the actor `mlp`."""
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """How far the actor `tracking` moves towards p ∝ reward at each update, in log space; 1 is all the way."""
    ema: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Weight of the newest reward in the moving average (which starts at 1) that actors learn from; 1: no average."""

    @field_validator("kind")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in ACTORS and not all(value.partition(":")):
            known = ", ".join(ACTORS)
            raise PydanticCustomError("actor", "input should be one of {known}, or pkg.module:Class", {"known": known})
        return value


class HBOConfig(Section):
    """How the mixture is balanced while the model trains: the YAML's `balance:`.

    Example:
        >>> HBOConfig(update_every=100).method
        'hbo'
        >>> HBOConfig(method="uniform").global_reward is None
        True
    """

    also_takes: ClassVar[tuple[str, ...]] = TIERS

    method: str = "hbo"
    """A name in `hbo.METHODS`; it sets the defaults of the fields below."""
    update_every: Steps | dict[Literal["global", "local"], Steps] = UPDATE_EVERY
    """Optimizer steps between two updates (F in the paper); `{global: …, local: …}` sets one interval per level."""
    probes: Annotated[int, Field(ge=1)] = 32
    """Rows per dataset that an update measures for its rewards, spread evenly over the groups."""
    probe_pool: Annotated[int, Field(ge=1)] = 64
    """Rows per group from which probes are drawn; the untuned model's loss is measured on these rows only."""
    probe_tokens: Annotated[int, Field(ge=1)] | None = None
    """Padded tokens per batch of probes; absent: as many as fit where a training step fits, at most 1024 on a CPU."""
    rewards: Literal["probe", "stream"] = "probe"
    """Where rewards come from. `probe`: rows measured at each update, as in the paper; `stream`: training batches."""
    global_reward: RewardChoice = "gradient_norm"
    """Reward of the datasets: a name, `pkg.module:function` or a callable; null freezes the global actor."""
    local_reward: RewardChoice = "perplexity_ratio"
    """Reward of the groups: a name, `pkg.module:function` or a callable; null freezes the local actors."""
    actor: ActorConfig = ActorConfig()
    """Settings of the actors, the same on both levels."""
    min_probability: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Lowest probability of a dataset, and of a group inside its dataset."""
    temperature: Temperature = 1.0
    """Prior over datasets, q ∝ n^(1/τ); in YAML, write it under `mixture:`."""
    update_lag: Annotated[int, Field(ge=0)] | None = None
    """Steps an update waits before it takes effect; absent: as few as the loader's prefetch allows."""

    @field_validator("update_every", mode="before")
    @classmethod
    def _an_interval_each(cls, value: Any) -> Any:
        for tier, every in value.items() if isinstance(value, Mapping) else ():
            if tier not in TIERS or not isinstance(every, int) or isinstance(every, bool) or every < 1:
                raise ValueError(
                    f"{shown(tier)}: {shown(every)} isn't a number of steps; write a number, or "
                    f"{{global: 200, local: 400}}"
                )
        return value

    @model_validator(mode="before")
    @classmethod
    def _from_method(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        try:
            defaults = method_of(data.get("method", "hbo")).defaults
        except ConfigError as error:
            raise ValueError(str(error)) from None
        merged = {**defaults, **data}
        if isinstance(data.get("actor"), Mapping):
            merged["actor"] = {**defaults.get("actor", {}), **data["actor"]}
        for tier in TIERS:
            if tier in merged:
                learns, reward = truth(merged.pop(tier)), f"{tier}_reward"
                if not isinstance(learns, bool):
                    raise ValueError(f"'{tier}' is {learns!r}; it must be true or false")
                if not learns:
                    merged[reward] = None
                elif merged.get(reward, "its default") is None:
                    raise ValueError(f"'{tier}' is true, but there is no {reward} to learn from; name one")
        return merged

    @model_validator(mode="after")
    def _settings_fit(self) -> HBOConfig:
        method = SETTINGS[self.method]
        if method.means_temperature and self.temperature != (own := method.defaults["temperature"]):
            raise ValueError(
                f"method {self.method} always has temperature {own:g}, but the temperature is set to "
                f"{self.temperature:g}; leave it out, "
                "or choose method temperature"
            )
        if self.is_flat and self.global_reward is not None:
            raise ValueError(f"method {self.method} has one actor over all groups: leave 'global_reward' out")
        if self.rewards == "stream" and isinstance(self.update_every, dict):
            raise ValueError(
                "rewards: stream measures datasets and groups at the same time; set 'update_every' to one number"
            )
        learned_by = self.local_reward if self.is_flat else self.global_reward
        if is_signed(learned_by) and not actor_spec(self.actor.kind).takes_signed:
            raise ValueError(
                f"the reward {learned_by} may be negative, which actor {self.actor.kind} can't take; choose softmax"
            )
        return self

    @property
    def is_flat(self) -> bool:
        """Whether one actor holds the groups of all datasets."""
        return SETTINGS[self.method].is_flat

    @property
    def is_stratified(self) -> bool:
        """Whether every step has exactly the shares, rounded to whole rows."""
        return SETTINGS[self.method].is_stratified

    @property
    def is_placebo(self) -> bool:
        """Whether each update shuffles the measured rewards among the choices (a control)."""
        return SETTINGS[self.method].is_placebo

    @property
    def is_static(self) -> bool:
        """Whether nothing is ever measured: both levels are frozen or follow a schedule."""
        return all(reward is None or is_of_the_run(reward) for reward in (self.global_reward, self.local_reward))

    def due(self, step: int) -> tuple[bool, bool]:
        """Whether the datasets and the groups learn after `step`, counted from 1."""
        every = self.update_every if isinstance(self.update_every, dict) else dict.fromkeys(TIERS, self.update_every)
        datasets, groups = (step > 0 and step % every.get(tier, UPDATE_EVERY) == 0 for tier in TIERS)
        return datasets and self.global_reward is not None, groups and self.local_reward is not None

    def measured(self, step: int) -> tuple[bool, bool]:
        """Whether a measurement after `step` is for the datasets and for the groups: both, unless intervals differ."""
        return self.due(step) if isinstance(self.update_every, dict) else (True, True)


def written_out(config: HBOConfig) -> dict[str, Any]:
    """The section `balance` with every default, a reward of the user's own by its name; and `temperature`."""
    found = config.model_dump(by_alias=True)
    for tier in TIERS:
        if callable(reward := found[f"{tier}_reward"]):
            found[f"{tier}_reward"] = f"{reward.__module__}:{reward.__qualname__}"
    return found


METHODS: dict[str, HBOConfig] = {name: HBOConfig(method=name) for name in SETTINGS}
"""Every method as a configuration."""
