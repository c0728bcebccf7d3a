"""Stage 2: what an update needs beside the training step that it interrupts; then the same in half of the memory.

On an H100: 8B in bf16 are 15 GiB, built there in about 5 s. A step of one row of 4,096 tokens with LoRA and
checkpointing is 3 forwards of 66 TFLOP (forward, again, backward to the inputs): 0.6 s. The reference passes over the
pool are 16 rows, 2 s at most; an update measures 8 of them at 0.6 s each, 5 s. Training twice, 3 steps and an update
each, is below 20 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hbo import HBOConfig

from .clock import free_memory, peak_gib, reset_peak
from .engine import Engine
from .machine import device
from .report import Report
from .rows import batch_of, random_rows
from .settings import Settings
from .shapes import SHAPES, llama, with_lora
from .trainers import arguments, autocast, trainer_of

_STEPS, _UPDATE = 3, 2
_MORE = 1.2  # times the peak that was needed anyway


@dataclass(frozen=True)
class Sizes:
    """How large."""

    shape: str
    longest: int
    rows: int


SIZES = {"full": Sizes("8b", 4096, 16), "cpu": Sizes("135m", 256, 16), "toy": Sizes("toy", 24, 16)}


def run(settings: Settings, seconds: float, report: Report) -> None:
    """Fills the report."""
    sizes = SIZES[settings.size]
    # Every other row is a quarter as long, so that batches of several rows would do.
    lengths = [sizes.longest // (1 if number % 2 == 0 else 4) for number in range(sizes.rows)]
    rows = random_rows(lengths, SHAPES[sizes.shape].vocabulary, levels=1)
    model = with_lora(llama(sizes.shape, torch.bfloat16 if device().type == "cuda" else torch.float32))
    weights = torch.cuda.memory_allocated() / 2**30 if device().type == "cuda" else None
    for case, fraction in (("whole memory", 1.0), ("half of the memory", 0.5)):
        if device().type == "cuda":
            torch.cuda.set_per_process_memory_fraction(fraction)
        free_memory()
        try:
            found = _trained(model, rows, Path(settings.scratch) / "memory")
            found |= {"weights_gib": weights, "one_row_gib": _one_row(model, rows) if fraction == 1 else None}
            needed = [gib for gib in (found["step_gib"], found["one_row_gib"]) if gib is not None]
            ratio = found["update_gib"] / max(needed) if needed else None
            report.add(case, found, reference={"step_gib": found["step_gib"]}, ratio=ratio)
            if fraction == 1:
                report.at_most("peak of an update over that of the step or of one row", ratio, _MORE)
        except Exception as error:
            report.fail(case, error)


def _trained(model: nn.Module, rows: Any, scratch: Path) -> dict[str, Any]:
    """Peaks of three steps and of the update after the second."""
    config = HBOConfig(update_every=_UPDATE, probes=2, probe_pool=4)
    args = arguments(
        scratch,
        max_steps=_STEPS,
        per_device_train_batch_size=1,
        activation_checkpointing=True,
        learning_rate=1e-5,
    )
    trainer, steps, after = trainer_of(model, args, rows, config)
    with _batches(model) as shapes:
        trainer.train()
    peak = after.peaks[_UPDATE - 1]
    return {
        "step_gib": max((gib for gib in steps.peaks if gib is not None), default=None),
        "update_gib": peak,
        "step_seconds": steps.seconds[-1],
        "update_seconds": after.seconds[_UPDATE - 1],
        "most_tokens_in_a_batch": max((rows * tokens for rows, tokens in shapes), default=None),
        "batches": len(shapes),
    }


@contextmanager
def _batches(model: nn.Module) -> Iterator[list[tuple[int, int]]]:
    """The shapes of the batches of an update, which aren't trained on but have a backward."""
    seen: list[tuple[int, int]] = []

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if torch.is_grad_enabled() and not module.training and ids is not None:
            seen.append(tuple(ids.shape))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def _one_row(model: nn.Module, rows: Any) -> float | None:
    free_memory()
    batch = batch_of(rows, [0])
    with autocast():
        engine = Engine(model, batch)
        reset_peak()
        engine(batch)
    return peak_gib()
