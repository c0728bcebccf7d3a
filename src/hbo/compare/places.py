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


def places_for(jobs: int, *, on_cpu: bool = False, several: bool = False) -> list[Place]:
    """What sets each of `jobs` runs apart from the others; one alone has all that this process has.

    Args:
        jobs: Runs at once.
        on_cpu: The runs leave GPUs alone.
        several: A run has several processes, which share several GPUs, and whose launcher sets their threads.

    Raises:
        ConfigError: There are fewer GPUs than runs.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs is {jobs}; give how many runs to do at once, from 1")
    if jobs == 1:
        return [{}]
    gpus = [] if on_cpu else visible_gpus(os.environ, torch.cuda.device_count)
    if not gpus:
        return [{} if several else _threads(jobs) for _ in range(jobs)]
    if jobs > len(gpus):
        raise ConfigError(
            f"--jobs is {jobs}, but each run needs a GPU of its own, and {counted(len(gpus), 'GPU')} can be seen "
            f"({GPUS}={','.join(gpus)}); give --jobs {len(gpus)}. If a GPU holds two runs, give the same command in "
            "another terminal: the two share the grid"
        )
    each = len(gpus) // jobs if several else 1
    return [{GPUS: ",".join(gpus[each * i : each * (i + 1)])} for i in range(jobs)]


def visible_gpus(environment: Mapping[str, str], count: Callable[[], int]) -> list[str]:
    """The GPUs by their names in CUDA_VISIBLE_DEVICES: numbers, or UUIDs of GPUs and of parts of one (MIG).

    Args:
        environment: Variables of the process.
        count: How many there are where the variable isn't set; it must not initialise CUDA.

    Example:
        >>> visible_gpus({"CUDA_VISIBLE_DEVICES": "2,MIG-8f3a,-1,0"}, int), visible_gpus({}, lambda: 2)
        (['2', 'MIG-8f3a'], ['0', '1'])
    """
    named = environment.get(GPUS)
    if named is None:
        return [str(i) for i in range(count())]
    # CUDA, too, sees nothing from the first name on that is none.
    return list(takewhile(lambda name: name not in ("", "-1"), (name.strip() for name in named.split(","))))


def _threads(jobs: int) -> Place:
    if THREADS in os.environ:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {THREADS: str(max(1, cores // jobs))}
