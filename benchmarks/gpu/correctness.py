"""Stage 1: the norms of a batch are those of one row at a time, whatever the precision, attention and kind of model.

On an H100: 200M parameters, 8 rows of 300 to 2,000 tokens, 9,200 in all, so that one row costs 3 forwards of 1.4 TFLOP:
0.1 s in fp32, and in bf16 what Python takes for 12 layers (30 ms). A case is one loop and two batches: at most 2 s in
fp32, 1 s in bf16; six to eight of them and the building of their models (1 s each) are 15 to 20 s.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .clock import free_memory, peak_gib, reset_peak
from .engine import Engine, looped_gradient_norms
from .machine import device
from .report import Report
from .rows import batch_of, random_rows
from .settings import Settings
from .shapes import SHAPES, llama, mixtral, with_lora

_EXACT, _ROUNDED = 1e-3, 0.01  # what a row's norm may be off by in fp32 and in bf16
_FLASH = "flash_attention_2"


@dataclass(frozen=True)
class Sizes:
    """How large."""

    llama: str
    mixtral: str
    rows: int
    shortest: int
    longest: int


SIZES = {
    "full": Sizes("200m", "20m", 8, 300, 2000),
    "cpu": Sizes("20m", "20m", 3, 100, 300),
    "toy": Sizes("toy", "toy", 3, 8, 24),
}


@dataclass(frozen=True)
class Case:
    """A model and a precision."""

    build: Callable[[], nn.Module]
    is_autocast: bool
    bound: float | None
    """None: told only. Under rounding an expert may be chosen in one way and not in the other."""


def run(settings: Settings, seconds: float, report: Report) -> None:
    """Fills the report."""
    sizes = SIZES[settings.size]
    lengths = np.linspace(sizes.shortest, sizes.longest, sizes.rows).astype(int).tolist()
    for name, case in _cases(sizes).items():
        try:
            vocabulary = SHAPES[sizes.mixtral if "experts" in name else sizes.llama].vocabulary
            rows = random_rows(lengths, vocabulary)
            found = _compared(case, batch_of(rows, range(len(rows))))
            report.add(name, found, reference={"one_row_at_a_time": found.pop("loop_norms")})
            if case.bound is not None:
                report.at_most(f"{name}: gap of a norm", found["gap"], case.bound, of_speed=False)
        except Exception as error:
            report.fail(name, error)
        free_memory()


def _cases(sizes: Sizes) -> dict[str, Case]:
    fp32, bf16 = torch.float32, torch.bfloat16
    cases = {
        "fp32": Case(lambda: llama(sizes.llama, fp32), False, _EXACT),
        "fp32 under autocast": Case(lambda: llama(sizes.llama, fp32), True, _ROUNDED),
        "bf16": Case(lambda: llama(sizes.llama, bf16), False, _ROUNDED),
        "experts, fp32": Case(lambda: mixtral(sizes.mixtral, fp32), False, _EXACT),
        "experts, bf16": Case(lambda: mixtral(sizes.mixtral, bf16), False, None),
        "lora, bf16 under autocast": Case(lambda: with_lora(llama(sizes.llama, bf16)), True, _ROUNDED),
    }
    if device().type == "cuda" and importlib.util.find_spec("flash_attn") is not None:
        cases["bf16, flash attention"] = Case(lambda: llama(sizes.llama, bf16, attention=_FLASH), False, _ROUNDED)
    return cases


def _compared(case: Case, batch: dict[str, Tensor]) -> dict[str, Any]:
    """Largest relative gaps of the norms and losses of a batch."""
    model = case.build()
    reset_peak()
    with warnings.catch_warnings(record=True) as seen, _autocast(case.is_autocast):
        warnings.simplefilter("always")
        engine = Engine(model, batch)
        (first_B, loss_B), (second_B, _) = engine(batch), engine(batch)
        peak = peak_gib()
        loop_B = looped_gradient_norms(model, batch)
        own_B = _losses(model, batch)
    found = {
        "gap": _gap(first_B, loop_B),
        "gap_second_time": _gap(second_B, loop_B),
        "same_bits_twice": bool((first_B == second_B).all()),
        "gap_of_losses": _gap(loss_B, own_B),
        "is_looped": any("one row at a time" in str(each.message) for each in seen),
        "peak_gib": peak,
        "loop_norms": [float(norm) for norm in loop_B],
    }
    if case.is_autocast and next(model.parameters()).dtype == torch.float32:
        exact_B = looped_gradient_norms(model, batch)  # what rounding alone does
        found |= {"batch_to_fp32": _gap(first_B, exact_B), "loop_to_fp32": _gap(loop_B, exact_B)}
    return found


@torch.no_grad()
def _losses(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    model.eval()
    rows = []
    for r in range(len(batch["labels"])):
        real = batch["attention_mask"][r].bool()
        rows.append(model(**{name: tensor[r : r + 1, real] for name, tensor in batch.items()}).loss.float())
    return torch.stack(rows)


def _autocast(is_on: bool) -> torch.autocast:
    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=is_on)


def _gap(found_B: Tensor, expected_B: Tensor) -> float:
    return float((found_B.double() / expected_B.double() - 1).abs().max())
