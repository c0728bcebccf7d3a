"""Freed memory stays while training, and is given back after it."""

import platform
from pathlib import Path

import pytest
import torch

from hbo.training.kept_memory import kept_memory

_MB = 2**20


def resident() -> float:
    """Megabytes of this process that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def use_and_free() -> float:
    torch.ones(256 * _MB // 4)
    return resident()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a switch of glibc")
def test_freed_memory_stays_inside_and_is_given_back_afterwards():
    before = use_and_free()
    with kept_memory("cpu"):
        assert use_and_free() > before + 200
    assert resident() < before + 50
    assert use_and_free() < before + 50


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a switch of glibc")
def test_a_run_on_a_gpu_leaves_the_process_as_it_is():
    before = use_and_free()
    with kept_memory("cuda"):
        assert use_and_free() < before + 50
