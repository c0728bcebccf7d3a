"""TRL's language-model head on a CPU: logits for the tokens that are targets, not for the whole prompt as well.

SFTTrainer has both ways and takes the first only where Triton runs, because elsewhere it expects compilers that dislike
shapes that change. A CPU without torch.compile has no such compiler, and there the head is a quarter of a small model's
arithmetic and more of its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from trl.trainer import utils

from hbo.compat import HEAD_CHOICE


@contextmanager
def targets_only(device: torch.device, *, enabled: bool = True) -> Iterator[None]:
    """Inside, SFTTrainer's head on a CPU computes logits where labels are; the loss is the same up to rounding.

    A TRL that chooses in another manner keeps its own choice.

    Args:
        device: Where the model is trained; anything but a CPU is left alone.
        enabled: False leaves the CPU alone too: `torch.compile` wants shapes that don't change.
    """
    before = getattr(utils, HEAD_CHOICE, None)
    if not enabled or device.type != "cpu" or before is None:
        yield
        return
    setattr(utils, HEAD_CHOICE, lambda where: where.type == "cpu" or before(where))
    try:
        yield
    finally:
        setattr(utils, HEAD_CHOICE, before)
