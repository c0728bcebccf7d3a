"""The table of rewards: all that must be known of a reward by its name.

A new reward is one function and one entry of `REWARDS`. Whatever asks about rewards asks this table, so there is no
other list of their names. It imports no torch: a configuration is read without it.

    of a row        fn(model, batch, **context) -> Tensor (B,), see `hbo.rewards`
    of a dataset    fn(model, sets) -> array (C,), one number for each of the sets of `hbo.rewards.passes.Sets`
    of the run      fn(standing) -> array (K,), which follows from how far training is: nothing is measured
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Need = Literal[
    "gradient_norm",  # each row's gradient norm
    "reference",  # each row's loss under the untuned model
    "without_instruction",  # each row's losses, now and under the untuned model, without its instruction
    "token_loss",  # a loss that is a mean over target tokens, in nats
    "batch",  # the rows themselves
    "dev_rows",  # rows of each dataset that are set aside and never trained on
    "past",  # what it measured before, on the same rows set aside, and how many rows were drawn by then
    "whole_gradients",  # the gradient of a mean over rows, which no process holds of a sharded model
]


@dataclass(frozen=True)
class RewardSpec:
    """What hbo knows of one reward."""

    function: str
    """Where it is computed, `pkg.module:function`."""
    meaning: str
    """What it says of a dataset or a group, in words that end the sentence "The reward is …"."""
    needs: frozenset[Need] = frozenset()
    """What must be measured for it, beside each row's loss."""
    of_a_row: bool = True
    """Whether each row has one, else a dataset has one as a whole."""
    is_signed: bool = False
    """Whether it may be negative, and then pushes a choice down."""
    of_the_run: bool = False
    """Whether it follows from how far training is, so that no row is looked at for it."""

    @property
    def is_streamable(self) -> bool:
        """Whether it follows from a group's mean loss and mean gradient norm, as training batches show them."""
        return self.of_a_row and self.needs <= {"gradient_norm", "reference", "token_loss"}

    @property
    def fits_any_loss(self) -> bool:
        """Whether it can be measured on a loss that isn't a mean over target tokens (DPO's, say)."""
        return self.of_a_row and self.needs <= {"gradient_norm", "reference"}


def _of_a_row(function: str, meaning: str, *needs: Need) -> RewardSpec:
    return RewardSpec(f"hbo.rewards.per_row:{function}", meaning, frozenset(needs))


def _alignment(function: str, meaning: str, *needs: Need, is_signed: bool = True) -> RewardSpec:
    wanted = frozenset({"whole_gradients", *needs})
    return RewardSpec(f"hbo.rewards.alignment:{function}", meaning, wanted, of_a_row=False, is_signed=is_signed)


def _signal(module: str, function: str, meaning: str, *needs: Need) -> RewardSpec:
    wanted = frozenset({"whole_gradients", *needs})
    return RewardSpec(f"hbo.rewards.{module}:{function}", meaning, wanted, of_a_row=False)


def _uncertainty(function: str, meaning: str) -> RewardSpec:
    return RewardSpec(f"hbo.rewards.uncertainty:{function}", meaning, frozenset({"dev_rows"}), of_a_row=False)


_LEFT = "is left: large where little was learnt so far"

REWARDS: dict[str, RewardSpec] = {
    "gradient_norm": _of_a_row(
        "gradient_norm", "the gradient norm: how strongly its rows still pull at the model's weights", "gradient_norm"
    ),
    "token_gradient_norm": _of_a_row(
        "token_gradient_norm",
        "the gradient norm, without the part that the length of responses has in it",
        "gradient_norm",
        "batch",
    ),
    "perplexity_ratio": _of_a_row(
        "perplexity_ratio",
        f"the perplexity ratio: how much of its perplexity at the start {_LEFT}",
        "reference",
        "token_loss",
    ),
    "loss_ratio": _of_a_row("loss_ratio", f"how much of its loss at the start {_LEFT}", "reference"),
    "ifd_ratio": _of_a_row(
        "ifd_ratio",
        f"how much of its IFD at the start {_LEFT}",
        "reference",
        "without_instruction",
        "token_loss",
    ),
    "perplexity": _of_a_row("perplexity", "the perplexity of its rows", "token_loss"),
    "loss": _of_a_row("loss", "the loss of its rows"),
    "batch_gradient_norm": _alignment(
        "batch_norms", "the norm of its mean gradient: how strongly its rows pull together", is_signed=False
    ),
    "gradient_alignment": _alignment("aligned", "how well its gradient agrees with those of all datasets", "dev_rows"),
    "lookahead_alignment": _alignment(
        "aligned_after_a_step",
        "how well its gradient agrees with those of all datasets one small step later",
        "dev_rows",
    ),
    "transferability": RewardSpec(
        "hbo.rewards.transferability:transferability",
        "how alike the model's inner states are on it and on the others",
        of_a_row=False,
        is_signed=True,
    ),
    "entropy": _uncertainty("entropy", "how unsure the model still is of its rows"),
    "eos_entropy": _uncertainty("eos_entropy", "how unsure the model still is of where its responses end"),
    "expected_probability": _uncertainty(
        "expected_probability", "how little the model believes in its likeliest token, on average over a row"
    ),
    "sequence_probability": _uncertainty(
        "sequence_probability", "how little the model believes in its likeliest tokens, a row taken as one"
    ),
    "variance": _uncertainty("variance", "how much the model's sureness varies within its rows"),
    "combined": _uncertainty("combined", "how unsure the model is of its rows, its mean and its variance in one"),
    "dev_loss": _uncertainty("dev_loss", "the loss of its rows set aside"),
    "signal_norm": _signal(
        "signal_norm", "signal_norm", "the norm of its mean gradient without noise: how strongly its rows agree to pull"
    ),
    "token_signal_norm": _signal(
        "signal_norm",
        "token_signal_norm",
        "the norm of its mean gradient without noise, with the weight that long responses have in a batch",
    ),
    "influence": _signal(
        "influence",
        "influence",
        "how much a row of it lowers the mean loss of all datasets at first",
        "dev_rows",
    ),
    "slope": RewardSpec(
        "hbo.rewards.slope:slope",
        "how much more rows of it lower the mean loss of all datasets",
        frozenset({"dev_rows", "past"}),
        of_a_row=False,
    ),
    "elapsed": RewardSpec(
        "hbo.rewards.clock:elapsed",
        "the part of the run that is over, the same for each",
        of_a_row=False,
        of_the_run=True,
    ),
}

_BY_FUNCTION = {spec.function: spec for spec in REWARDS.values()}


def spec_of(reward: object) -> RewardSpec | None:
    """The entry of a reward, given by name, as `pkg.module:function` or as the function; None of the user's own.

    Example:
        >>> spec_of("loss").is_streamable
        True
        >>> spec_of("my_rewards:surprise") is None
        True
    """
    if isinstance(reward, str):
        return REWARDS.get(reward) or _BY_FUNCTION.get(reward)
    return _BY_FUNCTION.get(f"{getattr(reward, '__module__', '')}:{getattr(reward, '__qualname__', '')}")


def needs(*rewards: object) -> frozenset[Need]:
    """All that these rewards need; what the user's own take is measured if another reward needs it."""
    return frozenset[Need]().union(*(spec.needs for reward in rewards if (spec := spec_of(reward))))


def is_of_dataset(reward: object) -> bool:
    """Whether a dataset has this reward as a whole."""
    spec = spec_of(reward)
    return spec is not None and not spec.of_a_row and not spec.of_the_run


def is_of_the_run(reward: object) -> bool:
    """Whether this reward follows from how far training is."""
    spec = spec_of(reward)
    return spec is not None and spec.of_the_run


def is_signed(reward: object) -> bool:
    """Whether this reward may be negative."""
    spec = spec_of(reward)
    return spec is not None and spec.is_signed
