"""Locks by which the runners of a grid keep out of each other's way; the kernel frees one with its last holder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def take_lock(file: Path) -> int | None:
    """The descriptor of the file, which is locked until it is closed everywhere; None where someone else holds it."""
    return _locked(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def lock_held(file: Path) -> Iterator[None]:
    """Nothing; the file is locked, once everyone else has let go of it, until the block ends."""
    descriptor = _locked(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked(file: Path, how: int) -> int | None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
