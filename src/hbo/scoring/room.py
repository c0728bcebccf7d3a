"""How many tokens a batch may have: by the memory that is free, and by what was too many. B rows of a batch."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn

from hbo.errors import RewardError
from hbo.scoring.devices import device_of
from hbo.text import first_line

TOKEN_BUDGET = 2048
"""Padded tokens per batch where nothing is known of memory."""
CPU_TOKENS = 1024
"""The same on a CPU, where more leave the caches, and fewer read the weights more often."""
MOST_TOKENS = 65536
"""More make no batch faster. Free memory decides between `TOKEN_BUDGET` and these."""

_SHARE = 0.5  # of what is free, that the activations of a forward without gradients may take
_WIDTHS = 8  # times hidden and intermediate size: tensors that a layer has at once, generously

_T = TypeVar("_T")


@dataclass
class Room:
    """Tokens per batch; fewer once they were too many."""

    tokens: int | None = None
    """Padded tokens per batch; None: not decided yet."""
    lockstep: bool = False
    """All processes run the model together, so that none may try again by itself."""

    @classmethod
    def of(cls, model: nn.Module, asked: int | None = None) -> Room:
        """The room for forwards without gradients: as asked, else by the device's free memory."""
        device = device_of(model)
        return cls(asked or _for_forwards(model, device))

    def tried(self, rows_B: np.ndarray, measure: Callable[[np.ndarray], _T]) -> Iterator[tuple[np.ndarray, _T]]:
        """What `measure` gives for these rows, in halves where they don't fit into memory together.

        Raises:
            RewardError: A single row doesn't fit, or processes that run together lack memory.
        """
        waiting = [rows_B]  # the last comes first, so that halves keep their order
        while waiting:
            part_B = waiting.pop()
            try:
                yield part_B, measure(part_B)
                continue
            except Exception as error:
                if not lacks_memory(error):
                    raise
                reason = _reason(error)
            # Out of the handler, so that its traceback keeps no tensor alive.
            free_memory()
            if len(part_B) == 1 or self.lockstep:
                what = "one row at a time" if len(part_B) == 1 else f"{len(part_B)} rows"
                raise _too_little(what, reason)
            self.tokens = max(1, (self.tokens or TOKEN_BUDGET) // 2)
            half = len(part_B) // 2
            waiting += [part_B[half:], part_B[:half]]

    def to_json(self) -> int | None:
        """What a checkpoint holds: a resumed run makes the same batches."""
        return self.tokens


def lacks_memory(error: Exception) -> bool:
    """Whether this is how a library says that memory is full."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(error)


@contextmanager
def never_for_training() -> Iterator[None]:
    """Inside, a lack of memory is a RewardError, which no trainer takes for a batch of its own that is too large."""
    try:
        yield
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise _too_little("rewards", _reason(error)) from None


def _reason(error: Exception) -> str:
    # In words by which accelerate doesn't take it for a training batch that is too large.
    return first_line(error)[:160].replace("out of memory", "memory is full")


def _too_little(what: str, reason: str) -> RewardError:
    return RewardError(
        f"there is too little memory to measure {what} ({reason}); shorten the longest rows (max_length), turn on "
        "activation checkpointing, or set balance.probe_tokens lower"
    )


def free_memory() -> None:
    """Gives back to the device what Python and torch hold without need."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free for tensors, that which torch keeps for itself included; None on a CPU."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def tokens_on(device: torch.device) -> int:
    """Padded tokens per batch where nothing is known of memory."""
    return CPU_TOKENS if device.type == "cpu" else TOKEN_BUDGET


def power_of_two(number: int) -> int:
    """The largest that isn't above the number, 1 at least."""
    return 1 << max(0, number.bit_length() - 1)


def _for_forwards(model: nn.Module, device: torch.device) -> int:
    free = free_bytes(device)
    if free is None:
        return tokens_on(device)
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if config is not None else None
    hidden = getattr(text, "hidden_size", None) or 4096
    inner = getattr(text, "intermediate_size", None) or 4 * hidden
    per_token = _WIDTHS * (hidden + (inner if isinstance(inner, int) else max(inner))) * 4
    tokens = int(_SHARE * free) // per_token
    # Rounded down to a power of two, so that a little more or less of free memory gives the same batches.
    return min(MOST_TOKENS, max(TOKEN_BUDGET, power_of_two(tokens)))
