"""Claim: difficulty is scored at least 4 times as fast as one row at a time, with the same numbers.

The reference is the published procedure on the same rows, in fp32: two forwards of one row each, with and without
instruction, with the model's own loss. `ratio` is that of what `stratify` and `hbo train` do by themselves on this
machine (bf16 where the processor multiplies in it), `fp32_ratio` that of `precision: fp32`.

    python benchmarks/scoring.py [--rows 128] [--rounds 5]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from support.demo_rows import batch_of, demo_parts
from support.side_by_side import say, side_by_side

from hbo.data.tokens import opening
from hbo.scoring.devices import Precision, scoring_autocast, uses_bf16
from hbo.scoring.difficulty import score


def main() -> None:
    """Prints the figures."""
    words = argparse.ArgumentParser()
    words.add_argument("--rows", type=int, default=128)
    words.add_argument("--rounds", type=int, default=5)
    given = words.parse_args()
    model, tokenizer, rows = demo_parts()
    rows = rows.select(np.linspace(0, len(rows) - 1, given.rows).astype(int))
    pad = int(tokenizer.pad_token_id)
    before = list(opening(tokenizer))
    found: dict[str, np.ndarray] = {}

    def ours(precision: Precision) -> None:
        with tempfile.TemporaryDirectory() as cache, scoring_autocast("cpu", precision):
            scores = score(rows, model, tokenizer, cache_dir=Path(cache))
        found[precision] = np.stack([scores.loss_N, scores.loss_alone_N])

    def alone(number: int) -> dict[str, torch.Tensor]:
        targets = [label for label in rows[number]["labels"] if label != -100]
        ids, labels = torch.tensor([before + targets]), torch.tensor([[-100] * len(before) + targets])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}

    def reference() -> None:
        model.eval()
        with torch.no_grad():
            given_N = [float(model(**batch_of(rows, [n], pad)).loss) for n in range(len(rows))]
            alone_N = [float(model(**alone(n)).loss) for n in range(len(rows))]
        found["reference"] = np.array([given_N, alone_N])

    def gap(precision: Precision) -> float:
        return float(np.abs(found[precision] / found["reference"] - 1).max())

    itself = side_by_side(lambda: ours("auto"), reference, given.rounds)
    fp32 = side_by_side(lambda: ours("fp32"), reference, given.rounds)
    ifd = {name: np.exp(losses[0] - losses[1]) for name, losses in found.items()}
    level = {name: np.argsort(np.argsort(value)) * 4 // len(rows) for name, value in ifd.items()}
    say(
        "scoring against one row at a time in fp32",
        **itself,
        precision="bf16" if uses_bf16("cpu", "auto") else "fp32",
        rows_per_second=round(given.rows / itself["ours_seconds"], 2),
        largest_relative_gap=gap("auto"),
        same_level_of_four=round(float((level["auto"] == level["reference"]).mean()), 3),
        fp32_ratio=fp32["ratio"],
        fp32_rows_per_second=round(given.rows / fp32["ours_seconds"], 2),
        fp32_largest_relative_gap=gap("fp32"),
    )


if __name__ == "__main__":
    main()
