"""Seconds, peaks of memory and host syncs; on a CPU the last two are None."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_GIB = 2**30


def wait() -> None:
    """Returns when the GPU has done all it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], Any]) -> float:
    """What one run of `work` takes, the GPU's share included."""
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def reset_peak() -> None:
    """Begins a new peak."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> float | None:
    """The most memory that tensors held since `reset_peak`."""
    return torch.cuda.max_memory_allocated() / _GIB if torch.cuda.is_available() else None


def free_memory() -> None:
    """Gives back what nobody holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def host_syncs() -> Iterator[list[str]]:
    """The calls inside the block that made the host wait for the GPU; the list is filled when it ends."""
    found: list[str] = []
    if not torch.cuda.is_available():
        yield found
        return
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found += [f"{each.filename}:{each.lineno}" for each in seen if "synchronizing" in str(each.message)]
