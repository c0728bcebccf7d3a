"""How LLaMA-Factory's rows are made, one group at a time: tokens first, and packing once the levels are known."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset
from llamafactory.data.processor import PackedSupervisedDatasetProcessor, SupervisedDatasetProcessor
from transformers import Trainer

from hbo.integrations.group_by_group import Batch, group_by_group, sorted_by_group
from hbo.rewards.examples import PACKED


class GroupByGroup:
    """A processor of LLaMA-Factory's that gets the rows of one group at a time, and packs nothing.

    Args:
        processor: Makes a batch out of a batch.
    """

    def __init__(self, processor: Any) -> None:
        if type(processor) is PackedSupervisedDatasetProcessor:
            parts = processor.template, processor.tokenizer, processor.processor, processor.data_args
            processor = SupervisedDatasetProcessor(*parts)
        self.processor = processor
        self.print_data_example = processor.print_data_example

    def preprocess_dataset(self, examples: Batch) -> Batch:
        """What the processor makes, with the names of the groups."""
        found = group_by_group(self.processor.preprocess_dataset, examples)
        # Of plain text the collator makes labels, later than HBO needs them.
        return {"labels": found["input_ids"], **found} if "input_ids" in found else found


def packed(rows: Dataset, *, trainer: Trainer, data_args: Any) -> Dataset:
    """Rows of several examples of one group each, as LLaMA-Factory packs them, and how long each example is.

    Args:
        rows: Tokens.
        trainer: Is told that its rows are packed, in TRL's words, which HBO reads.
        data_args: LLaMA-Factory's.
    """
    trainer.args.packing, trainer.args.max_length = True, data_args.cutoff_len + 1
    return sorted_by_group(rows).map(
        GroupByGroup(_Packer(None, trainer.processing_class, None, data_args)).preprocess_dataset,
        batched=True,
        batch_size=data_args.preprocessing_batch_size,
        remove_columns=rows.column_names,
        desc="Packing within groups",
    )


class _Packer(PackedSupervisedDatasetProcessor):  # type: ignore[misc]
    """Packs what is tokens already, which stand where a text's response would."""

    def preprocess_dataset(self, examples: Batch) -> Batch:
        pairs = [[pair] for pair in zip(examples["input_ids"], examples["labels"], strict=True)]
        nothing = {name: [[None]] * len(pairs) for name in ("_prompt", "_system", "_tools")}
        media = {f"_{name}": examples[name] for name in ("images", "videos", "audios")}
        found = super().preprocess_dataset({**nothing, **media, "_response": pairs})
        # An example's tokens have its number in the mask, from 1; 0 is padding.
        return {**found, PACKED: [np.bincount(mask)[1:].tolist() for mask in found["attention_mask"]]}

    def _encode_data_example(self, *, response: list[Any], **_: Any) -> Any:
        return response[0]
