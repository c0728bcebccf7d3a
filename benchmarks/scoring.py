"""Claim: difficulty is scored at least 4 times as fast as one row at a time, with the same numbers.

The reference is the published procedure on the same rows: two forwards of one row each, with and without instruction,
with the model's own loss.

    python benchmarks/scoring.py [--rows 64] [--rounds 5]
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
from hbo.scoring.difficulty import score


def main() -> None:
    """Prints the figure."""
    words = argparse.ArgumentParser()
    words.add_argument("--rows", type=int, default=64)
    words.add_argument("--rounds", type=int, default=5)
    given = words.parse_args()
    model, tokenizer, rows = demo_parts()
    rows = rows.select(np.linspace(0, len(rows) - 1, given.rows).astype(int))
    pad = int(tokenizer.pad_token_id)
    before = list(opening(tokenizer))
    found: dict[str, np.ndarray] = {}

    def ours() -> None:
        with tempfile.TemporaryDirectory() as cache:
            scores = score(rows, model, tokenizer, cache_dir=Path(cache))
        found["ours"] = np.stack([scores.loss_N, scores.loss_alone_N])

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

    figures = side_by_side(ours, reference, given.rounds)
    say(
        "scoring against one row at a time",
        **figures,
        rows_per_second=round(given.rows / figures["ours_seconds"], 2),
        largest_relative_gap=float(np.abs(found["ours"] / found["reference"] - 1).max()),
    )


if __name__ == "__main__":
    main()
