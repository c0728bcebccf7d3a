"""Makes the rows of a run fit the model that takes them, before anything is computed on them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from hbo.data.trainable import cut_rows
from hbo.scoring.limits import Limits, check_ids
from hbo.scoring.models import model_config

_OPTIONS = ("max_position_embeddings", "n_positions", "rope_parameters", "rope_scaling", "vocab_size")


def limits_of(spec: str, *, trust_remote_code: bool, options: Any = None) -> Limits:
    """What the model can be given, as far as its configuration says.

    Args:
        spec: Folder or Hub name.
        trust_remote_code: Whether its code may run.
        options: `train.model_init_kwargs`, which go before what its configuration says.
    """
    given = {key: value for key, value in options.items() if key in _OPTIONS} if isinstance(options, Mapping) else {}
    config = model_config(spec, trust_remote_code=trust_remote_code, options=given)
    return Limits(None, None) if config is None else Limits.of(config)


def pad_within(tokenizer: PreTrainedTokenizerBase, limits: Limits) -> None:
    """Lets the tokenizer pad with its end-of-text token if the model has no embedding of its pad token."""
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    if limits.ids is None or not isinstance(pad, int) or pad < limits.ids or not isinstance(eos, int):
        return
    warnings.warn(
        f"the pad token {tokenizer.pad_token!r} has id {pad}, but the model's embeddings have {limits.ids} rows; "
        f"padding, which is never trained on, is made of {tokenizer.eos_token!r} instead",
        UserWarning,
        stacklevel=2,
    )
    tokenizer.pad_token = tokenizer.eos_token


@dataclass
class Fit:
    """Makes rows fit a model, and counts those that it had to cut.

    Attributes:
        model: Its name, for what is said.
        limits: What it can be given.
        max_length: `train.max_length`, at which the rows were cut already.
        keeps_end: Whether a row that is cut loses its start.
        longer: Dataset → rows that were longer than the model has positions.
    """

    model: str
    limits: Limits
    max_length: int | None
    keeps_end: bool = False
    longer: dict[str, int] = field(default_factory=dict)

    @property
    def length(self) -> int | None:
        """Tokens that a row may have; None: any number."""
        known = [length for length in (self.max_length, self.limits.positions) if length is not None]
        return min(known, default=None)

    def rows(self, data: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The rows, none longer than the model has positions.

        Raises:
            ModelError: A row holds a token that the model has no embedding for.
        """
        cut, longer = cut_rows(data, self.limits.positions, keep_end=self.keeps_end)
        check_ids(cut, tokenizer, self.limits, f"model '{self.model}'")
        for name, count in longer.items():
            self.longer[name] = self.longer.get(name, 0) + count
        return cut

    def tell(self) -> None:
        """Warns of the rows that were cut."""
        if not self.longer:
            return
        counts = ", ".join(f"{count} of dataset '{name}'" for name, count in self.longer.items())
        beyond = (
            ", or train.model_init_kwargs.max_position_embeddings to the length that it shall learn"
            if self.limits.is_rotary
            else ""
        )
        warnings.warn(
            f"model '{self.model}' has {self.limits.positions} positions, so that longer rows are cut there: {counts}; "
            f"set train.max_length to {self.limits.positions} or less{beyond}",
            UserWarning,
            stacklevel=2,
        )
