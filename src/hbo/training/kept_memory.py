"""Memory that training on a CPU frees and wants again a moment later stays with the process.

Every step frees the gradients of all weights and allocates them anew. glibc gives such large blocks back to the kernel
at once, which clears each page again on its next use; in a virtual machine that was a third of a step.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Of glibc's <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_KEEP = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**26}
# What glibc's own adjustment comes to in a process that has used blocks of 32 MB.
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26, _TOP_PAD: 2**17}


@contextmanager
def kept_memory(device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside, memory freed by this process isn't given back to the kernel; afterwards it is.

    Args:
        device: Where the model is trained; anything but a CPU is left alone, as is a system without glibc.

    Raises:
        Nothing.
    """
    libc = _glibc() if torch.device(device).type == "cpu" else None
    if libc is None:
        yield
        return
    for parameter, value in _KEEP.items():
        libc.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _USUAL.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
