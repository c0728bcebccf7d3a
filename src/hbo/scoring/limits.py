"""What rows a model can take: token ids that its embeddings have, and as many tokens as it has positions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from torch import nn
from transformers import PretrainedConfig

from hbo.compat import loose_tensors, rope_parameters
from hbo.errors import ModelError

_BATCH = 1000
# Those that transformers maps to the first name of all are not named: n_positions of GPT-2, GPT-J and their kin.
_POSITIONS = ("max_position_embeddings", "max_seq_len", "max_sequence_length")
# Some models have more embeddings than words, for the sake of round numbers.
_WORDS = ("vocab_size", "padded_vocab_size", "embedding_size")
_NAME, _MORE_ROWS = re.compile(r"pos|wpe", re.I), 2  # OPT and BART begin their tables with two rows more


@dataclass(frozen=True)
class Limits:
    """What a model can be given."""

    ids: int | None
    """Rows of its embeddings; token ids are below. None: not known."""
    positions: int | None
    """Tokens that a row may have; None: any number, as with recurrent models."""
    is_rotary: bool = False
    """Whether positions are computed, so that a model can be made to go beyond those it was trained on."""

    @classmethod
    def of(cls, config: PretrainedConfig) -> Limits:
        """The limits that a model's configuration states.

        Example:
            >>> from transformers import GPT2Config
            >>> Limits.of(GPT2Config(vocab_size=1000, n_positions=512))
            Limits(ids=1000, positions=512, is_rotary=False)
        """
        text = config.get_text_config()
        found = [getattr(text, name, None) for name in _POSITIONS]
        positions = next((value for value in found if isinstance(value, int) and value > 0), None)
        ropes = _ropes(rope_parameters(text))
        if positions is not None:
            positions = max([positions, *(_stretched(positions, rope) for rope in ropes)])
        rows = [value for name in _WORDS if isinstance(value := getattr(text, name, None), int)]
        return cls(max(rows, default=None), positions, bool(ropes))


def check_ids(data: Dataset, tokenizer: Any, limits: Limits, model: str) -> None:
    """Refuses rows, of this tokenizer, with a token that the model of this name has no embedding for.

    Raises:
        ModelError: There is such a row.
    """
    if limits.ids is None:
        return
    start = 0
    for table in data.select_columns(["input_ids"]).with_format("arrow").iter(_BATCH):
        ids = table["input_ids"].combine_chunks()
        if int(ids.flatten().to_numpy().max(initial=-1)) >= limits.ids:
            at = next(i for i, here in enumerate(ids.to_pylist()) if max(here, default=-1) >= limits.ids)
            found = max(ids[at].as_py())
            told = without_embedding(found, tokenizer, limits.ids, model)
            row = data[start + at]
            dataset = f"dataset '{row['hbo_dataset']}', " if "hbo_dataset" in row else ""
            raise ModelError(f"{dataset}row {row.get('hbo_row', start + at)}: holds {told}")
        start += len(table)


def without_embedding(token_id: int, tokenizer: Any, rows: int, model: str) -> str:
    """What is wrong with a token of which `model` has no embedding, and the remedy."""
    token = tokenizer.convert_ids_to_tokens(token_id)
    return (
        f"the token {token!r} with id {token_id}, but the embeddings of {model} have {rows} rows; save the model "
        "after model.resize_token_embeddings(len(tokenizer)), or with the tokenizer that belongs to it"
    )


def has_position_table(model: nn.Module, positions: int) -> bool:
    """Whether the model looks its positions up in a table of so many rows, beyond which there are none."""
    tensors = itertools.chain(model.named_parameters(), model.named_buffers(), loose_tensors(model))
    rows = range(positions, positions + _MORE_ROWS + 1)
    return any(_NAME.search(name) and tensor.dim() == 2 and tensor.shape[0] in rows for name, tensor in tensors)


def _ropes(found: Any) -> list[Mapping[str, Any]]:
    """The parameters of each kind of rotary layer."""
    if not isinstance(found, Mapping):
        return []
    return [found] if "rope_type" in found else [each for each in found.values() if isinstance(each, Mapping)]


def _stretched(positions: int, rope: Mapping[str, Any]) -> int:
    """How far the rotation was stretched; some configurations state the positions before that, some after."""
    factor = rope.get("factor")
    if not isinstance(factor, int | float) or factor <= 1:
        return positions
    return int(factor * (rope.get("original_max_position_embeddings") or positions))
