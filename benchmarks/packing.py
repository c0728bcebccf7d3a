"""Claim: packed rows train at more tokens per second than the same examples unpacked.

The reference takes the examples of a step sorted by length, as HBO does, so it has little padding already; ours packs
the same examples within their groups, and takes one packed row at a time, since without flash attention a batch of them
costs the square of its length. Tokens without padding; as many optimizer steps on both sides.

    python benchmarks/packing.py [--steps 4] [--rounds 5] [--batch 8] [--accumulation 4] [--length 512] [--bf16]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from support.demo_rows import arguments, demo_parts
from support.side_by_side import say, seconds, side_by_side
from transformers import TrainerCallback
from trl import SFTTrainer

from hbo import HBOConfig
from hbo.core.algorithm import HBO
from hbo.run.compact_head import targets_only
from hbo.scoring.batches import lengths
from hbo.training.groups import groups_of
from hbo.training.packing import pack_within_groups


class _InOrder(TrainerCallback):
    """Hands the loader these rows."""

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        kwargs["train_dataloader"].set_sampler(self.rows)


def main() -> None:
    """Prints the figure."""
    words = argparse.ArgumentParser()
    words.add_argument("--steps", type=int, default=4)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--batch", type=int, default=8)
    words.add_argument("--accumulation", type=int, default=4)
    words.add_argument("--length", type=int, default=512)
    words.add_argument("--bf16", action="store_true")
    given = words.parse_args()
    model, tokenizer, rows = demo_parts()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    per_step = given.batch * given.accumulation
    drawn = HBO(groups_of(rows), HBOConfig(method="proportional")).stream.rows(0, given.steps * per_step)
    examples = rows.select(drawn)
    length_N = lengths(examples)
    order = [
        first + int(place)
        for first in range(0, len(examples), per_step)
        for place in np.argsort(length_N[first : first + per_step], kind="stable")
    ]

    def train(data: Dataset, numbers: list[int], batch: int, accumulation: int, **options: Any) -> float:
        model.load_state_dict(start)
        with tempfile.TemporaryDirectory() as folder:
            trainer = SFTTrainer(
                model,
                args=arguments(
                    folder,
                    max_steps=given.steps,
                    per_device_train_batch_size=batch,
                    gradient_accumulation_steps=accumulation,
                    learning_rate=1e-5,
                    bf16=given.bf16,
                    **options,
                ),
                train_dataset=data,
                processing_class=tokenizer,
            )
            trainer.add_callback(_InOrder(numbers))
            with targets_only(trainer.args.device):
                return seconds(trainer.train)

    with tempfile.TemporaryDirectory() as cache:
        packed = pack_within_groups(examples, given.length, cache_dir=Path(cache))
        share = -(-len(packed) // given.steps)  # packed rows of a step; the last may have fewer
        in_one_pass = list(range(len(packed)))
        figures = side_by_side(
            lambda: train(packed, in_one_pass, 1, share, packing=True, max_length=given.length),
            lambda: train(examples, order, given.batch, given.accumulation),
            given.rounds,
        )
    tokens = int(length_N.sum())
    say(
        "training on packed rows against the same examples unpacked",
        **figures,
        examples=len(examples),
        packed_rows=len(packed),
        filled=round(tokens / (len(packed) * given.length), 3),
        tokens_per_second=round(tokens / figures["ours_seconds"]),
        reference_tokens_per_second=round(tokens / figures["reference_seconds"]),
        precision="bf16" if given.bf16 else "fp32",
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
