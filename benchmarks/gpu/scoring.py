"""Stage 4: rows per second that get their IFD, against one row at a time, by the padded tokens of a batch.

On an H100: rows have 240 tokens on average and 160 of them are targets, so that both sides of a row are 400 tokens.
2,048 rows of 135M are 820,000 tokens × 2 × 0.13e9 = 0.2 PFLOP. On an H200 they took 3 s with 65,536 tokens per batch,
and 6 s with 16,384, where Python takes most of it; one row at a time took 0.2 s per row. 1,024 rows of 1B are 1 PFLOP,
3 s for each of three budgets. The budget that is dear comes last, and its time may be up: then what was found before
stays.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from hbo.data.tokens import opening
from hbo.scoring.devices import scoring_autocast
from hbo.scoring.difficulty import score
from hbo.scoring.fingerprint import model_fingerprint

from .clock import free_memory, peak_gib, reset_peak, seconds
from .machine import device
from .report import Report
from .rows import batch_of, byte_tokenizer, random_rows
from .settings import Settings
from .shapes import SHAPES, llama

_TIMES = 10.0


@dataclass(frozen=True)
class Sizes:
    """One model, its rows, and the budgets side by side; None is what hbo takes by itself."""

    shape: str
    rows: int
    longest: int
    budgets: tuple[int | None, ...]
    alone: int


SIZES = {
    "full": [
        Sizes("135m", 2048, 640, (None, 65536, 32768, 16384, 8192), 24),
        Sizes("1b", 1024, 640, (None, 65536, 16384), 24),
    ],
    "cpu": [Sizes("135m", 32, 128, (None, 512, 2048), 8)],
    "toy": [Sizes("toy", 24, 24, (None, 64), 4)],
}


def run(settings: Settings, seconds: float, report: Report) -> None:
    """Fills the report."""
    for sizes in SIZES[settings.size]:
        try:
            _case(sizes, report)
        except Exception as error:
            report.fail(sizes.shape, error)
        free_memory()


def _case(sizes: Sizes, report: Report) -> None:
    lengths = np.linspace(sizes.longest // 16, sizes.longest, sizes.rows) ** 2 / sizes.longest
    rows = random_rows(np.maximum(6, lengths).astype(int).tolist(), SHAPES[sizes.shape].vocabulary)
    rows = rows.select(np.random.default_rng(0).permutation(len(rows)))
    rows = rows.add_column("prompt", [[{"role": "user", "content": "?"}]] * len(rows))
    model, tokenizer = llama(sizes.shape), byte_tokenizer()
    fixed = seconds(lambda: model_fingerprint(model))  # once per call of `score`, whatever the rows
    few = rows.select(range(min(len(rows), sizes.alone)))
    alone, loss_alone = _one_at_a_time(model, tokenizer, few)
    _scored(model, tokenizer, rows, None)  # the first time, memory is asked for and kernels are loaded
    best: float | None = None
    found: dict[str, Any] = {"fingerprint_seconds": fixed, "tokens_per_row": float(np.mean(lengths))}
    for budget in sizes.budgets:
        reset_peak()
        try:
            took, losses = _scored(model, tokenizer, rows, budget)
        except torch.cuda.OutOfMemoryError as error:
            if budget is None:
                raise
            found[f"budget {budget or 'by itself'}"] = {"error": str(error)[:120]}
            continue
        per_second = len(rows) / max(took - fixed, 1e-9)
        if budget is None:
            own, gap = per_second, float(np.abs(losses[: len(few)] / loss_alone - 1).max())
            found["gap_of_a_loss"] = gap
        best = max(best or 0.0, per_second)
        found[f"budget {budget or 'by itself'}"] = {"rows_per_second": per_second, "peak_gib": peak_gib()}
        reference = {"rows_per_second": alone, "rows": len(few)}
        report.add(sizes.shape, found, reference=reference, ratio=own / alone)
    found["best_over_own_budget"] = (best or 0.0) / own
    report.add(sizes.shape, found)
    report.at_least(f"{sizes.shape}: times as fast as one row at a time", own / alone, _TIMES)


def _scored(model: nn.Module, tokenizer: Any, rows: Dataset, budget: int | None) -> tuple[float, np.ndarray]:
    losses: list[np.ndarray] = []

    def work() -> None:
        with tempfile.TemporaryDirectory() as cache, scoring_autocast(device(), "auto"):
            losses.append(score(rows, model, tokenizer, token_budget=budget, cache_dir=Path(cache)).loss_N)

    return seconds(work), losses[0]


def _one_at_a_time(model: nn.Module, tokenizer: Any, rows: Dataset) -> tuple[float, np.ndarray]:
    """Rows per second with two forwards each, and their losses given the instruction."""
    before = list(opening(tokenizer))
    model.eval()

    def alone(number: int) -> dict[str, Tensor]:
        targets = [label for label in rows[number]["labels"] if label != -100]
        ids, labels = torch.tensor([before + targets]), torch.tensor([[-100] * len(before) + targets])
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        return {name: tensor.to(device()) for name, tensor in batch.items()}

    @torch.no_grad()
    def both(number: int) -> float:
        float(model(**alone(number)).loss)
        return float(model(**batch_of(rows, [number])).loss)

    losses: list[float] = []
    with scoring_autocast(device(), "auto"):
        both(0)
        took = seconds(lambda: losses.extend(both(number) for number in range(len(rows))))
    return len(rows) / took, np.array(losses)
