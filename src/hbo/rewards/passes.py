"""One pass over some rows, in batches by length, dealt out to processes: what every measurement is made of.

P rows, B rows of a batch, W numbers per row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hbo.rewards.norms.left_as_found import left_as_found
from hbo.scoring.batches import Rows, pack, pad, reader
from hbo.scoring.placement import device_of
from hbo.scoring.processes import ALONE, Processes
from hbo.scoring.room import Room, tokens_on

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Batch = dict[str, torch.Tensor]


def over_rows(
    model: nn.Module,
    rows: Rows,
    number_P: Ints,
    measure: Callable[[Ints, Batch], Floats],
    width: int,
    *,
    room: Room,
    pad_token_id: int,
    processes: Processes = ALONE,
    alike: bool = False,
) -> Floats:
    """What `measure` finds for each row (W, P); the model is as before.

    Args:
        model: In eval mode during the pass.
        rows: With `input_ids` and `labels`.
        number_P: Which of them.
        measure: Called with the numbers of a batch's rows and the batch; returns (W, B).
        width: W.
        room: Tokens per batch; halved where they don't fit into memory.
        pad_token_id: Any valid token id.
        processes: Each measures its share of the batches.
        alike: All processes measure all batches instead, as the plain gradients of a sharded model need it.
    """
    value_WP = np.zeros((width, len(number_P)))
    read = reader(rows)
    length_P = np.array([len(ids) for ids, _ in read(number_P)])
    rank, count = (0, 1) if alike else (processes.rank, processes.count)
    tokens = room.tokens or tokens_on(device_of(model))

    def found(index_B: Ints) -> Floats:
        return measure(number_P[index_B], pad(read(number_P[index_B]), pad_token_id))

    with left_as_found(model):
        batches = list(pack(length_P, np.arange(len(number_P)), tokens))
        # As many passes in every process, because a sharded model needs all of them for each of its passes.
        for first in range(0, len(batches), count):
            together = batches[first : first + count]
            for index_B, value_WB in room.tried(together[min(rank, len(together) - 1)], found):
                if rank < len(together):
                    value_WP[:, index_B] = value_WB
    room.tokens = processes.least(room.tokens)
    return value_WP if alike else processes.total(value_WP)
