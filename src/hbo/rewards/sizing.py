"""How many tokens of probes are measured at once: as many as fit into what a training step takes anyway.

Decided once, at the first update, when the optimizer has its states and the peak of training is known:

    tokens = (peak of training − what is held between steps) / bytes of a token, and at least the longest row

What is held between steps are weights and states, gradients being gone when an update begins. Bytes of a token are
those that a probe of the longest row took at the start; what a batch takes whatever its size counts among them, so they
are rather too many. Tokens are rounded down to a power of two: a little more or less memory gives the same batches. On
a CPU, where no allocator tells, they are at most those of a training batch. The checkpoint holds what was decided, so
that a resumed run makes the same batches, and computes the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from hbo.scoring.processes import Processes
from hbo.scoring.room import MOST_TOKENS, TOKEN_BUDGET, Room, free_bytes, power_of_two, tokens_on

_SHARE = 0.8  # of what is free


class Sizing:
    """Decides the room for probes.

    Args:
        asked: Tokens per batch; None: by memory.
    """

    def __init__(self, asked: int | None = None) -> None:
        self.room = Room(asked)
        self.longest = 1
        """Tokens of the longest row."""
        self.of_training: int | None = None
        """Tokens of a training batch."""
        self.bytes_per_token: float | None = None

    @contextmanager
    def watching(self, device: torch.device) -> Iterator[None]:
        """Inside, the longest row is measured by itself; what it takes is noted, and peaks count from here on."""
        tokens, self.room.tokens = self.room.tokens, self.room.tokens or self.longest
        try:
            if device.type != "cuda":
                yield
                return
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            yield
            self.bytes_per_token = max(1, torch.cuda.max_memory_allocated(device) - before) / self.longest
            torch.cuda.reset_peak_memory_stats(device)
        finally:
            self.room.tokens = tokens

    def decide(self, device: torch.device, processes: Processes) -> None:
        """Decides, if nothing is decided yet; all processes alike."""
        if self.room.tokens is not None:
            return
        free = free_bytes(device)
        if free is None:
            tokens = min(tokens_on(device), self.of_training or MOST_TOKENS)
        elif self.bytes_per_token is None:
            tokens = TOKEN_BUDGET
        else:
            spare = torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)
            room = min(spare, _SHARE * free) if self.of_training else _SHARE * free
            tokens = min(MOST_TOKENS, power_of_two(int(room / self.bytes_per_token)))
        self.room.tokens = processes.least(max(tokens, self.longest))

    def to_json(self) -> dict[str, Any]:
        """What was decided, as JSON values."""
        return {"tokens": self.room.tokens, "longest": self.longest, "bytes_per_token": self.bytes_per_token}

    def load(self, values: dict[str, Any]) -> None:
        """Takes over what `to_json` gave; of a run that goes on, peaks count from here on."""
        self.room.tokens = values["tokens"]
        self.longest, self.bytes_per_token = values["longest"], values["bytes_per_token"]
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
