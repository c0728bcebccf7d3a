"""What makes training faster on a CPU without changing a number of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from hbo.scoring.matmul import fast_matmul
from hbo.training.compact_head import targets_only


@contextmanager
def full_speed(device: torch.device, *, compiled: bool = False) -> Iterator[None]:
    """Inside, SFTTrainer trains on a CPU as `hbo train` does; on anything else nothing changes.

    Args:
        device: Where the model is trained.
        compiled: By `torch.compile`, which has its own matrix products and wants shapes that don't change.

    Raises:
        Nothing.
    """
    with nullcontext() if compiled else fast_matmul(device), targets_only(device, enabled=not compiled):
        yield
