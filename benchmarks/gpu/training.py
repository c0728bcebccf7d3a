"""Stage 5: between its updates the callback costs nothing, and an update makes the host wait but once per batch.

On an H100: 135M with 16 rows of 512 tokens per step is bound by Python, about 0.12 s; 1B with 8 rows of 1,024 is
8,192 tokens × 6 × 1.24e9 = 61 TFLOP, 0.25 s with the optimizer. Four runs of 24 steps each are 12 and 24 s, with what a
trainer takes to begin 40 s at most; the larger model has 16 steps.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hbo import HBOConfig
from hbo.rewards.probe import Probe
from hbo.training.groups import groups_of

from .clock import free_memory, host_syncs, seconds
from .machine import device
from .report import Report
from .rows import PAD, random_rows
from .settings import Settings
from .shapes import SHAPES, llama
from .trainers import arguments, autocast, trainer_of

_SHARE = 0.01
_ROUNDS = 2
_WARM_UP = 4


@dataclass(frozen=True)
class Sizes:
    """One model and its steps."""

    shape: str
    batch: int
    tokens: int
    steps: int
    probes: int
    """Rows of each dataset in the update whose host syncs are counted."""


SIZES = {
    "full": [Sizes("135m", 16, 512, 24, 16), Sizes("1b", 8, 1024, 12, 16)],
    "cpu": [Sizes("135m", 2, 64, 7, 4)],
    "toy": [Sizes("toy", 4, 16, 8, 4)],
}


def run(settings: Settings, seconds: float, report: Report) -> None:
    """Fills the report."""
    for sizes in SIZES[settings.size]:
        try:
            _case(sizes, Path(settings.scratch) / "training", report)
        except Exception as error:
            report.fail(sizes.shape, error)
        free_memory()


def _case(sizes: Sizes, scratch: Path, report: Report) -> None:
    # All of one length, so that the order in which rows come makes no difference.
    rows = random_rows([sizes.tokens] * max(64, 4 * sizes.batch), SHAPES[sizes.shape].vocabulary)
    model = llama(sizes.shape)
    _warned_syncs(model, rows, sizes, report)
    # No update within these steps, but everything else: sampler, meter, the log of every few steps.
    config = HBOConfig(update_every=10_000, probe_pool=1, probes=4)
    sides: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * _ROUNDS):
        is_ours = number % 2 == 0
        sides[is_ours] += _step_seconds(model, rows, sizes, scratch, config if is_ours else None)
    # The mean, since only some of the steps are logged.
    ours, plain = (sizes.batch * sizes.tokens / statistics.mean(sides[is_ours]) for is_ours in (True, False))
    slower = plain / ours - 1
    median = statistics.median(sides[True]) / statistics.median(sides[False]) - 1
    found = {"tokens_per_second": ours, "slower_by": slower, "median_step_slower_by": median}
    report.add(sizes.shape, found, reference={"tokens_per_second": plain}, ratio=ours / plain)
    report.at_most(f"{sizes.shape}: slower between updates by", slower, _SHARE)


def _step_seconds(model: nn.Module, rows: Any, sizes: Sizes, scratch: Path, config: HBOConfig | None) -> list[float]:
    """From the end of one step to the end of the next, so that what lies between them counts."""
    free_memory()  # the trainer before this one had its own optimizer, 10 GB of it for 1B
    args = arguments(
        scratch, max_steps=sizes.steps, per_device_train_batch_size=sizes.batch, learning_rate=1e-6, logging_steps=5
    )
    trainer, steps, _ = trainer_of(model, args, rows, config)
    ends: list[float] = []
    original = steps.on_step_end

    def on_step_end(*given: Any, **options: Any) -> None:
        original(*given, **options)
        ends.append(steps.ended)

    steps.on_step_end = on_step_end  # type: ignore[method-assign]
    trainer.train()
    return [later - earlier for earlier, later in pairwise(ends)][_WARM_UP - 1 :]


def _warned_syncs(model: nn.Module, rows: Any, sizes: Sizes, report: Report) -> None:
    """Host syncs of an update, in all and by batch, and where the most come from."""
    probe = Probe(rows, groups_of(rows), HBOConfig(probes=sizes.probes, probe_pool=4), pad_token_id=PAD)
    with autocast():
        probe.measure_reference(model)
        probe.measure(model, step=1)
        batches: list[int] = []
        handle = model.register_forward_pre_hook(lambda *_: batches.append(1))
        with host_syncs() as syncs:
            probe.measure(model, step=1)
        handle.remove()
        took = seconds(lambda: probe.measure(model, step=1))
    is_gpu = device().type == "cuda"
    found = {
        "update_seconds": took,
        "batches": len(batches),
        "host_syncs": len(syncs) if is_gpu else None,
        "host_syncs_per_batch": len(syncs) / max(1, len(batches)) if is_gpu else None,
        "most_from": dict(Counter(_short(place) for place in syncs).most_common(5)),
    }
    report.add(f"{sizes.shape}: an update", found)
    torch.manual_seed(0)


def _short(place: str) -> str:
    return "/".join(Path(place).parts[-3:])
