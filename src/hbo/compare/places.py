"""Which GPUs, or how many threads of the CPU, each of the runs has that go on at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import takewhile

import torch

from hbo.errors import ConfigError
from hbo.text import counted

GPUS, THREADS = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"
Place = dict[str, str]
"""What is added to the environment of a run."""


def places_for(jobs: int, runs: int, *, on_cpu: bool = False, several: bool = False) -> list[Place]:
    """What sets each of the runs that go on at once apart from the others; one alone has all that this process has.

    Args:
        jobs: How many go on at once at most.
        runs: How many there are.
        on_cpu: The runs leave GPUs alone.
        several: A run has several processes, which share several GPUs, and whose launcher sets their threads.

    Raises:
        ConfigError: There are fewer GPUs than runs at once.
    """
    asked = jobs
    if jobs < 1:
        raise ConfigError(f"--jobs is {jobs}; give how many runs to do at once, from 1")
    if not several:  # how many GPUs a launcher finds may say how many rows a step has, which must be as in other grids
        jobs = min(jobs, runs)
    if jobs <= 1:
        return [{}]
    gpus = [] if on_cpu else visible_gpus(os.environ, torch.cuda.device_count)
    if not gpus:
        return [{} if several else _threads(jobs) for _ in range(jobs)]
    if jobs > len(gpus):
        raise ConfigError(
            f"--jobs is {asked}, but each run needs a GPU of its own, and {counted(len(gpus), 'GPU')} can be seen "
            f"({GPUS}={','.join(gpus)}); give --jobs {len(gpus)}. If a GPU holds two runs, give the same command in "
            "another terminal: the two share the grid"
        )
    each = len(gpus) // jobs if several else 1
    return [{GPUS: ",".join(gpus[each * i : each * (i + 1)])} for i in range(jobs)]


def visible_gpus(environment: Mapping[str, str], count: Callable[[], int]) -> list[str]:
    """The GPUs by their names in CUDA_VISIBLE_DEVICES: numbers, or UUIDs of GPUs and of parts of one (MIG).

    Args:
        environment: Variables of the process.
        count: How many of them CUDA sees, as torch says; it must not initialise CUDA.

    Raises:
        ConfigError: One is named twice.

    Example:
        >>> visible_gpus({"CUDA_VISIBLE_DEVICES": "2,5,-1"}, lambda: 2), visible_gpus({}, lambda: 2)
        (['2', '5'], ['0', '1'])
    """
    seen, named = count(), environment.get(GPUS)
    if named is None:
        return [str(i) for i in range(seen)]
    # CUDA, too, sees nothing from the first name on that is none.
    names = list(takewhile(lambda name: name not in ("", "-1"), (name.strip() for name in named.split(","))))
    if len(set(names)) < len(names):
        raise ConfigError(f"{GPUS}={named} names a GPU twice, so CUDA would see none; name each once")
    is_parts = bool(names) and all(name.startswith("MIG-") for name in names)
    return names if seen and is_parts else names[:seen]  # CUDA shows a process one part, however many are named


def _threads(jobs: int) -> Place:
    if THREADS in os.environ:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {THREADS: str(max(1, cores // jobs))}
