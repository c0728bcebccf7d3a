"""Two ways of doing the same thing, timed in turns in one process, so that what else the machine does hits both."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def seconds(work: Callable[[], Any]) -> float:
    """What one run of `work` takes: what it says itself when it returns a number, else the time until it returns."""
    began = time.perf_counter()
    own = work()
    return own if isinstance(own, float) else time.perf_counter() - began


def side_by_side(
    ours: Callable[[], Any], reference: Callable[[], Any], rounds: int, *, warm_up: bool = True
) -> dict[str, float]:
    """Median seconds of both over `rounds` alternating runs, and the median of the ratios of neighbours."""
    if warm_up:
        ours()
        reference()
    pairs = [(seconds(ours), seconds(reference)) for _ in range(rounds)]
    return {
        "ours_seconds": round(statistics.median(own for own, _ in pairs), 4),
        "reference_seconds": round(statistics.median(other for _, other in pairs), 4),
        "ratio": round(statistics.median(other / own for own, other in pairs), 3),
        "rounds": rounds,
    }


def say(claim: str, **figures: Any) -> None:
    """Prints the benchmark's one line, and adds it to the file that `make bench` names."""
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    line = json.dumps({"claim": claim, **figures, "machine": machine})
    print(line, flush=True)
    if results := os.environ.get("BENCH_RESULTS"):
        with Path(results).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
