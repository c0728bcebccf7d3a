"""SFTTrainer on prepared rows, and callbacks that see how long its steps and HBO's updates take, and at what peak."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from hbo import HBOCallback, HBOConfig

from .clock import peak_gib, reset_peak, wait
from .machine import device
from .rows import byte_tokenizer


def arguments(folder: Path, **options: Any) -> SFTConfig:
    """SFTConfig of a short run that saves nothing unless it is told to."""
    is_gpu = device().type == "cuda"
    given: dict[str, Any] = {
        "use_cpu": not is_gpu,
        "bf16": is_gpu,
        "dataloader_pin_memory": is_gpu,
        "activation_checkpointing": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1000,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        **options,
    }
    return SFTConfig(str(folder), **given)


class Steps(TrainerCallback):
    """Seconds and peak of each training step: of its passes and its optimizer, not of what callbacks do after it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.peaks: list[float | None] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        wait()
        reset_peak()
        self._began = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        wait()
        self.seconds.append(time.perf_counter() - self._began)
        self.peaks.append(peak_gib())
        reset_peak()
        self.ended = time.perf_counter()


class AfterStep(TrainerCallback):
    """What the callbacks between `Steps` and this one took after each step, and their peak."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.seconds: list[float] = []
        self.peaks: list[float | None] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        wait()
        self.seconds.append(time.perf_counter() - self.steps.ended)
        self.peaks.append(peak_gib())


def trainer_of(
    model: nn.Module, args: SFTConfig, rows: Dataset, config: HBOConfig | None, **options: Any
) -> tuple[SFTTrainer, Steps, AfterStep]:
    """A trainer that balances as `config` says (None: doesn't), and what watches its steps."""
    steps = Steps()
    after = AfterStep(steps)
    trainer = SFTTrainer(model, args=args, train_dataset=rows, processing_class=byte_tokenizer())
    trainer.add_callback(steps)
    if config is not None:
        trainer.add_callback(HBOCallback(trainer, config, **options))
    trainer.add_callback(after)
    return trainer, steps, after


def autocast() -> torch.autocast:
    """What the trainer computes under on this device."""
    kind = device().type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda")
