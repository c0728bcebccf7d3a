"""Claim: a step under HBO is no slower than one of SFTTrainer's own, and on the demo mixture 1.5 times as fast.

Both train on the very rows of the same steps with the same trainer. The reference takes them in the order drawn, as
SFTTrainer does. Ours is what `hbo train` does: the rows of a step sorted by length before they are cut into batches,
and on a CPU logits for target tokens alone. Tokens without padding.

    python benchmarks/training.py [--steps 4] [--rounds 5] [--batch 8] [--accumulation 4] [--bf16]
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from support.demo_rows import arguments, demo_parts
from support.side_by_side import say, seconds, side_by_side
from transformers import TrainerCallback
from trl import SFTTrainer

from hbo import HBOCallback, HBOConfig
from hbo.core.algorithm import HBO
from hbo.run.compact_head import targets_only
from hbo.training.groups import groups_of


class _Unsorted(TrainerCallback):
    """Hands the loader the same rows in the order drawn."""

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
    words.add_argument("--bf16", action="store_true")
    given = words.parse_args()
    model, tokenizer, rows = demo_parts()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    count = given.steps * given.batch * given.accumulation
    drawn = HBO(groups_of(rows), HBOConfig(method="proportional")).stream.rows(0, count).tolist()
    losses: dict[str, list[float]] = {}

    def train(name: str, data: Dataset, *, balanced: bool) -> float:
        model.load_state_dict(start)
        with tempfile.TemporaryDirectory() as folder:
            args = arguments(
                folder,
                max_steps=given.steps,
                per_device_train_batch_size=given.batch,
                gradient_accumulation_steps=given.accumulation,
                learning_rate=1e-5,
                bf16=given.bf16,
                logging_steps=1,
            )
            trainer = SFTTrainer(model, args=args, train_dataset=data, processing_class=tokenizer)
            if balanced:
                trainer.add_callback(HBOCallback(trainer, HBOConfig(method="proportional"), seed=0))
            else:
                trainer.add_callback(_Unsorted(drawn))
            with targets_only(args.device) if balanced else nullcontext():
                took = seconds(trainer.train)
        losses[name] = [line["loss"] for line in trainer.state.log_history if "loss" in line]
        return took

    figures = side_by_side(
        lambda: train("ours", rows, balanced=True), lambda: train("reference", rows, balanced=False), given.rounds
    )
    tokens = sum(len(rows[number]["input_ids"]) for number in drawn)
    say(
        "training steps against SFTTrainer's own order",
        **figures,
        tokens_per_second=round(tokens / figures["ours_seconds"]),
        largest_relative_gap_of_losses=float(
            np.abs(np.array(losses["ours"]) / np.array(losses["reference"]) - 1).max()
        ),
        precision="bf16" if given.bf16 else "fp32",
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
