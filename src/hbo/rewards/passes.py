"""One pass over some rows, in batches by length, dealt out to processes: what every measurement is made of.

P rows, B rows of a batch, W numbers per row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hbo.rewards.casts import kept_casts
from hbo.rewards.untouched import left_as_found
from hbo.scoring.batches import Rows, budget_on, pack, pad, reader
from hbo.scoring.matmul import fast_matmul

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Batch = dict[str, torch.Tensor]
Reduce = Callable[[Floats], Floats]


def over_rows(
    model: nn.Module,
    rows: Rows,
    number_P: Ints,
    measure: Callable[[Ints, Batch, int], Floats],
    width: int,
    *,
    token_budget: int | None,
    pad_token_id: int,
    rank: int = 0,
    ranks: int = 1,
    reduce: Reduce = np.copy,
) -> Floats:
    """What `measure` finds for each row (W, P); the model is as before.

    Args:
        model: In eval mode during the pass.
        rows: With `input_ids` and `labels`.
        number_P: Which of them.
        measure: Called with the numbers of a batch's rows, the batch, and how many rows the largest of the batches
            that processes measure at the same time has; returns (W, B).
        width: W.
        token_budget: Padded tokens per batch; None: what suits the device.
        pad_token_id: Any valid token id.
        rank: This process, of `ranks`; each measures its share of the batches.
        ranks: Processes.
        reduce: Sums an array over all processes.

    Raises:
        Nothing of its own.
    """
    value_WP = np.zeros((width, len(number_P)))
    read = reader(rows)
    length_P = np.array([len(ids) for ids, _ in read(number_P)])
    device = next(model.parameters()).device
    with left_as_found(model), fast_matmul(device), kept_casts(model):
        budget = budget_on(device, token_budget)
        batches = list(pack(length_P, np.arange(len(number_P)), budget))
        # As many passes in every process, because a sharded model needs all of them for each of its passes.
        for first in range(0, len(batches), ranks):
            together = batches[first : first + ranks]
            index_B = together[min(rank, len(together) - 1)]
            batch = pad(read(number_P[index_B]), pad_token_id)
            found = measure(number_P[index_B], batch, max(map(len, together)))
            if rank < len(together):
                value_WP[:, index_B] = found
    return reduce(value_WP)
