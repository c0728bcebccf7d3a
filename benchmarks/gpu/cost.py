"""Stage 3: what an update costs beside 200 training steps, and how much less than one example at a time.

On an H100, rows of 1,024 tokens, 64 to a step, 256 probes to an update (4 datasets × 4 groups × 16):

    1B, all of it   a step is 65,536 tokens × 6 × 1.24e9 = 0.49 PFLOP, 1.4 s; two of them, and the first is slower: 4 s.
                    An update is 262,144 tokens × (2 forward, 2 backward, 2 for norms) × 1.24e9 = 1.95 PFLOP, 5.6 s,
                    after one on 16 rows that isn't counted. One example at a time: 48 rows of 0.1 s, 5 s.
    8B, LoRA        a step is 65,536 tokens × (2, 2 again, 2 backward) × 8e9 = 3.1 PFLOP, 9 s, so a quarter of one is
                    taken, twice: 5 s. An update would be 262,144 × 6 × 8e9 = 12.6 PFLOP, 36 s, so a quarter of the
                    probes is measured: 9 s. One example at a time: 16 rows of 0.25 s, 4 s. Building: 5 s.

Together about 45 s. What is taken in part is multiplied up, and the line says so. The published procedure takes the
gradient of 32 rows of a dataset one at a time, and the loss of 64: for each probe here one forward and backward with
the norm, and two forwards.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import get_total_norm

from hbo import HBOConfig
from hbo.rewards.probe import Probe
from hbo.training.groups import groups_of

from .clock import free_memory, peak_gib, reset_peak, seconds
from .engine import Engine
from .machine import device
from .report import Report
from .rows import PAD, batch_of, random_rows
from .settings import Settings
from .shapes import SHAPES, llama, with_lora
from .trainers import arguments, autocast, trainer_of

_STEPS = 200
_GROUPS = 16
_SHARE, _TIMES, _GAP = 0.02, 4.0, 0.01


@dataclass(frozen=True)
class Sizes:
    """One model and how much of an update and of a step is taken."""

    shape: str
    is_lora: bool
    tokens: int
    micro_batch: int
    step_rows: int
    step_share: int
    """The part of a step that is trained: one in so many rows."""
    probes: int
    probe_share: int
    """The part of the probes that is measured, likewise."""
    alone: int
    """Rows measured one at a time."""


SIZES = {
    "full": {
        # 1B in fp32 with Adam are 20 GB; a batch of 8 rows keeps 3 MB per token, 24 GB.
        "1b": Sizes("1b", False, 1024, 8, 64, 1, 256, 1, 48),
        "8b with LoRA": Sizes("8b", True, 1024, 4, 64, 4, 256, 4, 16),
    },
    "cpu": {
        "135m": Sizes("135m", False, 128, 4, 8, 2, 32, 2, 6),
        "135m with LoRA": Sizes("135m", True, 128, 4, 8, 2, 32, 2, 6),
    },
    "toy": {
        "toy": Sizes("toy", False, 12, 4, 8, 1, 16, 1, 3),
        "toy with LoRA": Sizes("toy", True, 12, 4, 8, 2, 32, 2, 3),
    },
}


def run(settings: Settings, seconds: float, report: Report) -> None:
    """Fills the report."""
    for name, sizes in SIZES[settings.size].items():
        try:
            _case(name, sizes, Path(settings.scratch) / "cost", report)
        except Exception as error:
            report.fail(name, error)
        free_memory()


def _case(name: str, sizes: Sizes, scratch: Path, report: Report) -> None:
    is_gpu = device().type == "cuda"
    lora_type = torch.bfloat16 if is_gpu else torch.float32
    model: nn.Module = with_lora(llama(sizes.shape, lora_type)) if sizes.is_lora else llama(sizes.shape)
    rows = random_rows([sizes.tokens] * max(2 * sizes.probes, sizes.step_rows), SHAPES[sizes.shape].vocabulary)
    rows = rows.add_column("hbo_reference", np.full(len(rows), 10.0))  # spares a pass that isn't part of an update
    found: dict[str, Any] = {}
    found["update_seconds"], found["probes"] = _update(model, rows, sizes)
    found["update_gib"] = peak_gib()
    gradient, forward, gap = _alone(model, rows, sizes)
    free_memory()
    found["step_seconds"], found["step_gib"] = _step(model, rows, sizes, scratch)
    found["gap"] = gap
    found["share_of_200_steps"] = found["update_seconds"] / (_STEPS * found["step_seconds"])
    found["measured_part_of_a_step"] = 1 / sizes.step_share
    found["measured_part_of_the_probes"] = 1 / sizes.probe_share
    published = sizes.probes * (gradient + 2 * forward)
    same_rows = sizes.probes * (gradient + forward)
    found["ratio_same_rows"] = same_rows / found["update_seconds"]
    ratio = published / found["update_seconds"]
    reference = {
        "update_seconds": published,
        "gradient_of_a_row_seconds": gradient,
        "loss_of_a_row_seconds": forward,
        "rows": sizes.alone,
    }
    report.add(name, found, reference=reference, ratio=ratio)
    report.at_most(f"{name}: an update over 200 steps", found["share_of_200_steps"], _SHARE)
    report.at_least(f"{name}: times as fast as one example at a time", ratio, _TIMES)
    report.at_most(f"{name}: gap of a norm", gap, _GAP, of_speed=False)


def _update(model: nn.Module, rows: Any, sizes: Sizes) -> tuple[float, int]:
    """Seconds of a whole update, and its probes."""
    groups = groups_of(rows)

    def probe(probes: int) -> Probe:
        made = Probe(
            rows, groups, HBOConfig(probes=max(4, probes // 4), probe_pool=probes // _GROUPS), pad_token_id=PAD
        )
        made.measure_reference(model)
        return made

    few, all_of_them = probe(_GROUPS), probe(sizes.probes // sizes.probe_share)
    with autocast():
        few.measure(model, step=1)  # what is done once per model isn't timed
        reset_peak()
        took = seconds(lambda: all_of_them.measure(model, step=1))
    return took * sizes.probe_share, sum(map(len, all_of_them.probes(1))) * sizes.probe_share


def _alone(model: nn.Module, rows: Any, sizes: Sizes) -> tuple[float, float, float]:
    """Seconds of one row's gradient and norm, of its loss alone, and the largest gap of a batch's norms to these."""
    model.eval()
    norms: list[float] = []
    numbers = list(range(sizes.alone))
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def gradient(number: int) -> None:
        model.zero_grad()
        with autocast():
            loss = model(**batch_of(rows, [number])).loss
        loss.backward()
        norms.append(float(get_total_norm([each.grad for each in trainable if each.grad is not None])))

    @torch.no_grad()
    def forward(number: int) -> None:
        with autocast():
            float(model(**batch_of(rows, [number])).loss)

    taken = [_median(work, numbers) for work in (gradient, forward)]
    model.zero_grad()
    batch = batch_of(rows, numbers[: sizes.micro_batch])
    with autocast():
        norm_B, _ = Engine(model, batch)(batch)
    gaps = [abs(float(found) / norm - 1) for found, norm in zip(norm_B, norms[1:], strict=False)]
    return taken[0], taken[1], max(gaps)


def _median(work: Callable[[int], None], numbers: list[int]) -> float:
    work(numbers[0])  # the first one loads kernels
    return statistics.median(seconds(lambda number=number: work(number)) for number in numbers)  # type: ignore[misc]


def _step(model: nn.Module, rows: Any, sizes: Sizes, scratch: Path) -> tuple[float, float | None]:
    """Seconds and peak of SFTTrainer's own step, by what a part of one takes."""
    args = arguments(
        scratch,
        max_steps=2,
        per_device_train_batch_size=sizes.micro_batch,
        gradient_accumulation_steps=sizes.step_rows // sizes.step_share // sizes.micro_batch,
        learning_rate=1e-6,
        activation_checkpointing=sizes.is_lora,
    )
    trainer, steps, _ = trainer_of(model, args, rows, None)
    trainer.train()
    return steps.seconds[-1] * sizes.step_share, steps.peaks[-1]
