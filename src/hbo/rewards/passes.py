"""Passes over rows, of which every measurement is made: which rows, in batches of how many tokens, by which process.

Each group has a pool of rows, drawn once, and an update looks at some of them, drawn anew (`pool_of`, `probes_of`).

A batch of probes has as many tokens as fit into what a training step takes anyway (`Sizing`). That is decided once, at
the first update, when the optimizer has its states and the peak of training is known:

    tokens = (peak of training − what is held between steps) / bytes of a token, and at least the longest row

A peak below a sixteenth of the GPU's memory counts as that: a small batch leaves the GPU idle while Python runs through
the layers, and takes as long as a large one.

What is held between steps are weights and states, gradients being gone when an update begins. Bytes of a token are
those that a probe of the longest row took at the start; what a batch takes whatever its size counts among them, so they
are rather too many. Tokens are rounded down to a power of two: a little more or less memory gives the same batches. On
a CPU, where no allocator tells, they are at most those of a training batch. The checkpoint holds what was decided, so
that a resumed run makes the same batches, and computes the same to the bit.

Letters: P rows, B rows of a batch, W numbers per row, C choices of an actor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from hbo.arrays import Floats, Ints
from hbo.config import HBOConfig
from hbo.core.groups import Groups
from hbo.core.keys import Purpose, generator
from hbo.rewards.examples import PackedExamples
from hbo.rewards.norms.left_as_found import left_as_found
from hbo.rewards.past import Past
from hbo.rewards.supply import Supply
from hbo.scoring.batches import TokenRows, pack, pad, reader
from hbo.scoring.devices import device_of, is_whole
from hbo.scoring.processes import ALONE, Processes
from hbo.scoring.room import MOST_TOKENS, TOKEN_BUDGET, Room, free_bytes, power_of_two, tokens_on

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Passes:
    """Makes passes over rows, in batches by length, dealt out to processes."""

    rows: TokenRows | PackedExamples
    """With `input_ids` and `labels`."""
    pad_token_id: int
    """Any valid token id."""
    room: Room
    """Tokens per batch; halved where they don't fit into memory."""
    processes: Processes = ALONE
    """Each measures its share of the batches."""

    def over(
        self,
        model: nn.Module,
        number_P: Ints,
        measure: Callable[[Ints, Batch], Floats],
        width: int,
        *,
        alike: bool = False,
    ) -> Floats:
        """What `measure` finds for each of these rows (W, P); the model is as before.

        Args:
            model: In eval mode during the pass.
            number_P: Which rows.
            measure: Called with the numbers of a batch's rows and the batch; returns (W, B).
            width: W.
            alike: All processes measure all batches instead, as the plain gradients of a sharded model need it.
        """
        value_WP = np.zeros((width, len(number_P)))
        sharing = ALONE if alike else self.processes
        self.room.lockstep = self.processes.count > 1 and not is_whole(model)
        read = reader(self.rows)
        length_P = np.array([len(ids) for ids, _ in read(number_P)])
        tokens = self.room.tokens or tokens_on(device_of(model))

        def found(index_B: Ints) -> Floats:
            return measure(number_P[index_B], pad(read(number_P[index_B]), self.pad_token_id))

        with left_as_found(model):
            batches = list(pack(length_P, np.arange(len(number_P)), tokens))
            for number, is_own in sharing.turns(len(batches)):
                for index_B, value_WB in self.room.tried(batches[number], found):
                    if is_own:
                        value_WP[:, index_B] = value_WB
        self.room.tokens = self.processes.least(self.room.tokens)
        return sharing.total(value_WP)


@dataclass(frozen=True)
class Sets:
    """Sets of rows, one for each choice, of which a reward of the whole is measured, and how to look at them."""

    passes: Passes
    row_C: list[Ints]
    """The rows of each choice."""
    dev_K: list[Ints]
    """Rows of each dataset that are set aside, if the reward needs them."""
    gradient_tokens: int | None = None
    """Padded tokens of a batch whose gradient is taken; None: by device."""
    past: Past | None = None
    """Earlier measurements, if the reward needs them."""
    supply: Supply | None = None
    """What the datasets still have to give, if the reward needs it."""

    def each(
        self, model: nn.Module, number_C: list[Ints], measure: Callable[[nn.Module, Batch], Floats], width: int
    ) -> list[Floats]:
        """What `measure` (W, B) finds for the rows of each of these sets (W, P), rows without a target left out."""
        borders = np.cumsum([len(rows) for rows in number_C])[:-1]
        found = self.passes.over(model, np.concatenate(number_C), lambda _, batch: measure(model, batch), width)
        return [part[:, np.isfinite(part).all(axis=0)] for part in np.split(found, borders, axis=1)]


_SHARE = 0.8  # of what is free
_LITTLE = 16  # a model that trains in less than this part of a GPU would be measured in many tiny batches


class Sizing:
    """Decides the room for probes: as `asked`, else by memory, and by the tokens of a training batch, if known."""

    def __init__(self, asked: int | None = None, of_training: int | None = None) -> None:
        self.room = Room(asked)
        self.longest = 1
        """Tokens of the longest row."""
        self.of_training = of_training
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
            whole = torch.cuda.mem_get_info(device)[1]
            most = max(torch.cuda.max_memory_allocated(device), whole // _LITTLE)
            spare = most - torch.cuda.memory_allocated(device)
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


def chosen(rows: Ints, count: int, key: tuple[int, Purpose, *tuple[int, ...]]) -> Ints:
    """`count` of the rows, all different, in ascending order; all of them if there are fewer."""
    if len(rows) <= count:
        return rows
    return np.sort(rows[generator(*key).choice(len(rows), count, replace=False)])


def pool_of(
    groups: Groups, config: HBOConfig, seed: int, numbers: Callable[[Ints], Ints] = lambda rows: rows
) -> list[Ints]:
    """The pool of each group; `numbers` turns its rows into the numbers of what is measured."""
    return [
        chosen(numbers(groups.rows(k, j)), config.probe_pool, (seed, Purpose.POOL, k, j))
        for k in range(len(groups.datasets))
        for j in range(groups.levels)
    ]


def probes_of(pool: list[Ints], config: HBOConfig, levels: int, seed: int, step: int) -> list[Ints]:
    """What the update at `step` looks at, one array per group: `config.probes` per dataset, at least one per group."""
    share = [config.probes // levels + (j < config.probes % levels) for j in range(levels)]
    return [
        chosen(rows, max(1, share[cell % levels]), (seed, Purpose.PROBES, step, cell)) for cell, rows in enumerate(pool)
    ]
