"""The demo's model and mixture, as a run of `hbo train` sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig

from hbo.demo import demo_config
from hbo.progress import silent
from hbo.run.arguments import training_arguments, typed
from hbo.run.model import find_model, quiet_libraries
from hbo.run.rows import read_data
from hbo.scoring.batches import pad, reader
from hbo.scoring.models import load_model


def demo_parts() -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Dataset]:
    """Model in fp32, tokenizer and training rows; four levels by row number, since scoring isn't timed."""
    quiet_libraries()
    config = typed(demo_config("unused"))
    found = find_model(config)
    rows = read_data(config, found, training_arguments(config), silent).train
    model = load_model(found.spec, dtype=torch.float32)
    return model, found.tokenizer, rows.add_column("hbo_level", [i % 4 for i in range(len(rows))])


def arguments(folder: str, **options: Any) -> SFTConfig:
    """SFTConfig of a short training run on CPUs whose rows are prepared already."""
    return SFTConfig(
        folder,
        use_cpu=True,
        activation_checkpointing=False,
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
        dataset_kwargs={"skip_prepare_dataset": True},
        **options,
    )


def batch_of(rows: Dataset, numbers: list[int], pad_token_id: int) -> dict[str, torch.Tensor]:
    """These rows as one padded batch."""
    return pad(reader(rows)(np.array(numbers)), pad_token_id)
