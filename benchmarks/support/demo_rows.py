"""The demo's model and mixture, as a run of `hbo train` sees them."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hbo.config import RunConfig
from hbo.core.groups import Groups
from hbo.data.mixture import hold_out, read_mixture
from hbo.data.tokens import drop_without_target, tokenize
from hbo.demo import demo_config
from hbo.scoring.models import load_model, load_tokenizer, resolve
from hbo.training.prepare import quiet_libraries


def demo_parts(*, groups: int = 4) -> tuple[RunConfig, PreTrainedModel, PreTrainedTokenizerBase, Dataset]:
    """Configuration, model in fp32, tokenizer and training rows; levels by row number, since scoring isn't timed."""
    quiet_libraries()
    config = demo_config("unused")
    spec = resolve(config.model)
    model, tokenizer = load_model(spec, dtype=torch.float32), load_tokenizer(spec)
    rows, _ = hold_out(read_mixture(config.mixture.datasets), config.mixture.eval_fraction, config.seed)
    rows, _ = drop_without_target(tokenize(rows, tokenizer, max_length=512))
    return config, model, tokenizer, rows.add_column("hbo_level", [i % groups for i in range(len(rows))])


def batch_of(rows: Dataset, numbers: list[int], pad: int) -> dict[str, torch.Tensor]:
    """These rows as one padded batch."""
    found: dict[str, Any] = rows[numbers]
    longest = max(map(len, found["input_ids"]))

    def padded(lists: list[list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([ids + [fill] * (longest - len(ids)) for ids in lists])

    ones = [[1] * len(ids) for ids in found["input_ids"]]
    return {
        "input_ids": padded(found["input_ids"], pad),
        "attention_mask": padded(ones, 0),
        "labels": padded(found["labels"], -100),
    }


def groups_of_rows(rows: Dataset) -> Groups:
    """The mixture's groups."""
    return Groups.from_columns(rows["hbo_dataset"][:], rows["hbo_level"][:])
