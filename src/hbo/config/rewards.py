"""The table of rewards: for each name, all that the rest of hbo must know about that reward.

To add a reward, write one function and one entry of `REWARDS`. There is no other list of rewards. This module doesn't
import torch, so that a configuration can be read without it.

    of a row        fn(model, batch, **context) -> Tensor (B,), see `hbo.rewards`
    of a dataset    fn(model, sets) -> array (C,), one number for each of the sets of `hbo.rewards.passes.Sets`
    of the run      fn(standing) -> array (K,), computed from how far training is; nothing is measured
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
    "past",  # earlier measurements on the same rows set aside, and how many rows had been drawn at each
    "supply",  # how many rows each dataset has, which of them also stand in others, and how many are still to be drawn
    "whole_gradients",  # the gradient of a mean over rows; if a model is sharded, no process has all of it
]


@dataclass(frozen=True)
class RewardSpec:
    """What hbo knows about one reward."""

    function: str
    """The function that computes it, as `pkg.module:function`."""
    meaning: str
    """What it says about a dataset or a group, in words that end the sentence "The reward is …"."""
    needs: frozenset[Need] = frozenset()
    """What must be measured for it, besides each row's loss."""
    of_a_row: bool = True
    """True: each row has its own value. False: only a dataset as a whole has one."""
    is_signed: bool = False
    """Whether it can be negative; a negative reward lowers the choice's share."""
    of_the_run: bool = False
    """Whether it is computed from how far training is, without looking at any row."""

    @property
    def is_streamable(self) -> bool:
        """Whether a group's mean loss and mean gradient norm in the training batches are enough to compute it."""
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


def _signal(function: str, meaning: str) -> RewardSpec:
    return RewardSpec(f"hbo.rewards.signal_norm:{function}", meaning, frozenset({"whole_gradients"}), of_a_row=False)


def _uncertainty(function: str, meaning: str) -> RewardSpec:
    return RewardSpec(f"hbo.rewards.uncertainty:{function}", meaning, frozenset({"dev_rows"}), of_a_row=False)


_LEFT = "is left: large if the model has learnt little from them so far"

REWARDS: dict[str, RewardSpec] = {
    "gradient_norm": _of_a_row(
        "gradient_norm",
        "the gradient norm: how strongly its rows would still change the model's weights",
        "gradient_norm",
    ),
    "token_gradient_norm": _of_a_row(
        "token_gradient_norm",
        "the gradient norm, corrected for the length of the responses",
        "gradient_norm",
        "batch",
    ),
    "perplexity_ratio": _of_a_row(
        "perplexity_ratio",
        f"the perplexity ratio: how much of its rows' perplexity at the start {_LEFT}",
        "reference",
        "token_loss",
    ),
    "loss_ratio": _of_a_row("loss_ratio", f"how much of its rows' loss at the start {_LEFT}", "reference"),
    "ifd_ratio": _of_a_row(
        "ifd_ratio",
        f"how much of its rows' IFD at the start {_LEFT}",
        "reference",
        "without_instruction",
        "token_loss",
    ),
    "perplexity": _of_a_row("perplexity", "the perplexity of its rows", "token_loss"),
    "loss": _of_a_row("loss", "the loss of its rows"),
    "batch_gradient_norm": _alignment(
        "batch_norms",
        "the norm of its mean gradient: how strongly its rows together would change the model's weights",
        is_signed=False,
    ),
    "gradient_alignment": _alignment("aligned", "how well its gradient agrees with those of all datasets", "dev_rows"),
    "lookahead_alignment": _alignment(
        "aligned_after_a_step",
        "how well its gradient agrees with those of all datasets after one small step of training on it",
        "dev_rows",
    ),
    "transferability": RewardSpec(
        "hbo.rewards.transferability:transferability",
        "how similar the model's hidden states are on its rows and on those of the others",
        of_a_row=False,
        is_signed=True,
    ),
    "entropy": _uncertainty("entropy", "how uncertain the model still is about its rows"),
    "eos_entropy": _uncertainty("eos_entropy", "how uncertain the model still is about where its responses end"),
    "expected_probability": _uncertainty(
        "expected_probability",
        "how far below 1 the probability of the model's most likely token is, on average over a row",
    ),
    "sequence_probability": _uncertainty(
        "sequence_probability", "how far below 1 the probability of the model's most likely tokens is, over a whole row"
    ),
    "variance": _uncertainty(
        "variance", "how much the log probability of the model's most likely token varies within its rows"
    ),
    "combined": _uncertainty("combined", "how uncertain the model is about its rows, mean and variance combined"),
    "dev_loss": _uncertainty("dev_loss", "the loss of its dev rows, which are never trained on"),
    "signal_norm": _signal(
        "signal_norm",
        "the norm of its mean gradient without noise: how strongly its rows agree on what to change",
    ),
    "token_signal_norm": _signal(
        "token_signal_norm",
        "the norm of its mean gradient without noise, times the square root of its mean number of target tokens",
    ),
    "slope": RewardSpec(
        "hbo.rewards.slope:slope",
        "how much 1% more of its rows would lower the mean loss of all datasets",
        frozenset({"dev_rows", "past"}),
        of_a_row=False,
    ),
    "gain": RewardSpec(
        "hbo.rewards.gain:gain",
        "how much its latest rows have lowered its loss, less for copies and for rows that are repeated often",
        frozenset({"dev_rows", "past", "supply"}),
        of_a_row=False,
    ),
    "elapsed": RewardSpec(
        "hbo.rewards.clock:elapsed",
        "the fraction of the run that is done, the same for every dataset",
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
    """All that these rewards need. Nothing is measured just for a user's own reward: it gets what others need."""
    return frozenset[Need]().union(*(spec.needs for reward in rewards if (spec := spec_of(reward))))


def is_of_dataset(reward: object) -> bool:
    """Whether only a dataset as a whole has this reward, not each row."""
    spec = spec_of(reward)
    return spec is not None and not spec.of_a_row and not spec.of_the_run


def is_of_the_run(reward: object) -> bool:
    """Whether this reward is computed from how far training is."""
    spec = spec_of(reward)
    return spec is not None and spec.of_the_run


def is_signed(reward: object) -> bool:
    """Whether this reward can be negative."""
    spec = spec_of(reward)
    return spec is not None and spec.is_signed
