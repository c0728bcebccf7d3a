"""Rows → their scores under a model, kept on disk so that no row is ever scored twice.

IFD compares a response's loss given its instruction with that of the very same tokens after the chat template's
opening alone, so that both sides have the same targets. Letters: N rows, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from datasets import Dataset
from torch import nn

from hbo.data.cache import cache_root
from hbo.data.tokens import IGNORED, opening, predicts_target
from hbo.errors import ModelError
from hbo.progress import Track, silent
from hbo.scoring.batches import Read, TokenRow, pack, reader
from hbo.scoring.devices import device_of
from hbo.scoring.fingerprint import content_fingerprint, model_fingerprint
from hbo.scoring.limits import Limits
from hbo.scoring.losses import evaluating
from hbo.scoring.prefix import PrefixScorer
from hbo.scoring.processes import ALONE, Processes
from hbo.scoring.room import TOKEN_BUDGET, Room
from hbo.scoring.score_cache import Journal, journals, keep_losses, kept_losses
from hbo.scoring.scores import Scores
from hbo.scoring.tokenized import Scan

_VERSION = "1"  # part of every cache file's name: raise it when the same rows give other losses


def score(
    data: Dataset,
    model: nn.Module,
    tokenizer: Any,
    *,
    token_budget: int | None = None,
    ifd: str = "perplexity_ratio",
    cache_dir: Path | None = None,
    track: Track = silent,
    processes: Processes = ALONE,
) -> Scores:
    """The scores of all rows; from the cache, without asking the model, if the same rows have met it before.

    Interrupted, it goes on where it was. A row without an instruction gets no IFD, one without a response nothing.

    Args:
        data: Canonical rows with `input_ids` and `labels` by the scorer's tokenizer.
        model: The scorer.
        tokenizer: The scorer's tokenizer.
        token_budget: Padded tokens per batch; None: what suits the device.
        ifd: `perplexity_ratio`, or `loss_ratio` as in the authors' code; both come from the same cached losses.
        cache_dir: Holds the folder `scores`; absent: `cache_root()`.
        track: Hears of each row.
        processes: Share the batches among them; all must call this, and only the first writes the cache.

    Raises:
        ModelError: The rows have token ids that the model doesn't know, or are longer than it can take; or the
            processes hold different rows or weights.
        DataError: The cache can't be read or written.
    """
    before = np.asarray(opening(tokenizer), dtype=np.int64)
    scan = Scan.of(data)
    _check_fit(scan, before, model)
    key = _key(data, scan, before, model)
    if not processes.agree(key):
        raise ModelError(
            "the processes hold different rows or weights, or score in different precisions, so they can't score "
            "together; give all of them the same files and difficulty.precision, and leave "
            "fsdp_cpu_ram_efficient_loading and zero3_init_flag off in the accelerate config"
        )
    path = (cache_dir or cache_root()) / "scores" / f"{key}.parquet"
    found = processes.from_first(kept_losses(path))
    if found is not None:
        return Scores(found[0], found[1], scan.target_N, ifd, cached=True)
    sides = _sides(reader(data), scan, before, path, processes)
    room = Room.of(model, token_budget)
    room.tokens = processes.least(room.tokens)  # the processes share out one list of batches
    pad = tokenizer.pad_token_id or 0
    loss_N, alone_N = (_measure(side, model, pad, room, track, processes) for side in sides)
    # A loss that has overflowed is a failure of the scorer and no score, on whichever side.
    for side, measured_N in zip(sides, (loss_N, alone_N), strict=True):
        is_broken = side.is_wanted_N & ~np.isfinite(measured_N)
        loss_N[is_broken] = alone_N[is_broken] = np.nan
    if processes.is_first:
        keep_losses(path, loss_N, alone_N)
    processes.from_first(None)  # no journal goes before all is saved
    for journal in (journal for side in sides for journal in side.journals):
        journal.remove()
    return Scores(loss_N, alone_N, scan.target_N, ifd)


@dataclass(frozen=True)
class _Side:
    """One of the two ways in which responses are scored."""

    phase: str
    read: Read
    length_N: np.ndarray
    is_wanted_N: np.ndarray
    journals: list[Journal]


def _sides(read: Read, scan: Scan, before: np.ndarray, path: Path, processes: Processes) -> tuple[_Side, _Side]:
    is_scored = scan.target_N > 0
    given, alone = (journals(path.with_suffix(name), processes) for name in (".given", ".alone"))
    return (
        _Side("scoring", read, scan.length_N, is_scored, given),
        _Side(
            "scoring without instruction",
            lambda rows_B: [without_instruction(row, before) for row in read(rows_B)],
            len(before) + scan.target_N,
            is_scored & scan.has_instruction_N,
            alone,
        ),
    )


def _measure(
    side: _Side, model: nn.Module, pad_token_id: int, room: Room, track: Track, processes: Processes
) -> np.ndarray:
    """The losses (N,) of the wanted rows, NaN of the others; what a journal holds isn't measured again."""
    loss_N, is_done = np.full(len(side.length_N), np.nan), np.zeros(len(side.length_N), dtype=bool)
    for journal in side.journals:
        is_done |= journal.read(loss_N)
    loss_N, is_done = processes.together(loss_N, is_done)
    left = np.flatnonzero(side.is_wanted_N & ~is_done)
    tokens = processes.least(room.tokens) or TOKEN_BUDGET

    def share() -> Iterator[np.ndarray]:
        # The very batches that one process would make, dealt out in turn.
        return islice(pack(side.length_N, left, tokens), processes.rank, None, processes.count)

    measured_N, is_mine = np.full_like(loss_N, np.nan), np.zeros_like(is_done)
    done, own = int(side.is_wanted_N.sum()) - len(left), side.journals[0]
    scorer = PrefixScorer(model)
    with track(side.phase, done + sum(map(len, share()))) as advance, evaluating(model), own.appending() as file:
        advance(done)
        for rows_B in share():
            for part_B, loss_B in room.tried(rows_B, lambda part_B: scorer.losses(side.read(part_B), pad_token_id)):
                measured_N[part_B] = loss_B
            is_mine[rows_B] = True
            own.write(file, rows_B, measured_N[rows_B])
            advance(len(rows_B))
    measured_N, is_new = processes.together(measured_N, is_mine)
    return np.where(is_new, measured_N, loss_N)


def without_instruction(row: TokenRow, before: np.ndarray) -> TokenRow:
    """The row's targets, all turns in one, after the opening."""
    _, labels = row
    targets = labels[1:][predicts_target(labels)]
    return np.concatenate([before, targets]), np.concatenate([np.full(len(before), IGNORED), targets])


def _key(data: Dataset, scan: Scan, before: np.ndarray, model: nn.Module) -> str:
    device = device_of(model).type
    # Under autocast a model gives other losses.
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else "as it is"
    digest = xxhash.xxh3_128(f"{_VERSION} {before.tolist()} {precision} {model_fingerprint(model)} ".encode())
    digest.update(content_fingerprint(data, ["input_ids", "labels", "hbo_dataset", "hbo_row"]).encode())
    digest.update(scan.has_instruction_N.tobytes())
    return digest.hexdigest()


def _check_fit(scan: Scan, before: np.ndarray, model: Any) -> None:
    known = model.get_input_embeddings().weight.shape[0]
    largest = max(scan.largest_id, int(before.max()))
    if largest >= known:
        raise ModelError(
            f"the rows hold token id {largest}, but the scorer knows ids below {known} only; "
            "tokenize them with the scorer's own tokenizer"
        )
    longest = int(max(scan.length_N.max(initial=0), len(before) + scan.target_N.max(initial=0)))
    limit = Limits.of(model.config).positions
    if limit is not None and longest > limit:
        raise ModelError(
            f"a row of {longest} tokens is longer than the {limit} that the scorer can take; "
            f"lower max_length to at most {limit}, or take another scorer"
        )
