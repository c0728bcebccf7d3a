"""Rows → their difficulty under a scorer, kept on disk, and the groups cut from it.

IFD is the ratio of a response's perplexity given its instruction to that of the very same tokens after the chat
template's opening alone, so that both sides have the same T targets. The higher, the less the instruction helps, the
harder the row. Letters: N rows, T target tokens.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from torch import nn

from hbo.data.cache import cache_root
from hbo.data.tokens import opening
from hbo.progress import Track, silent
from hbo.scoring import kept
from hbo.scoring.batches import TOKEN_BUDGET, reader
from hbo.scoring.levels import assign_levels
from hbo.scoring.scores import Quantiles, Scores, quantiles, score_table

__all__ = ["Quantiles", "Scores", "assign_levels", "quantiles", "score", "score_table", "stratify"]

_BATCH = 1000
_VERSION = "1"  # part of every cache file's name: raise it when the same rows give other losses


def score(
    data: Dataset,
    model: nn.Module,
    tokenizer: Any,
    *,
    token_budget: int = TOKEN_BUDGET,
    ifd: str = "perplexity_ratio",
    cache_dir: Path | None = None,
    track: Track = silent,
) -> Scores:
    """The scores of all rows, from the cache if the same rows have met the same model before.

    Interrupted, it goes on where it was. A row without an instruction gets no IFD and one without a response no score.

    Args:
        data: Canonical rows with `input_ids` and `labels` by the scorer's tokenizer.
        model: The scorer.
        tokenizer: The scorer's tokenizer.
        token_budget: Padded tokens per batch.
        ifd: `perplexity_ratio`, or `loss_ratio` as in the authors' code; both from the same cached losses.
        cache_dir: Where the scores are kept, in a folder `scores`; absent: `cache_root()`.
        track: Hears of each row.

    Raises:
        ModelError: The rows have token ids that the model doesn't know, or are longer than it can take.
        DataError: The cache can't be read or written.
    """
    prefix = np.asarray(opening(tokenizer), dtype=np.int64)
    scan = _Scan(data)
    _check_fit(scan, prefix, model)
    path = (cache_dir or cache_root()) / "scores" / f"{_key(data, scan, prefix, model)}.parquet"
    found = kept.load(path)
    if found is None:
        read = reader(data)
        measure = partial(_measure, model, pad_token_id=tokenizer.pad_token_id or 0, token_budget=token_budget)
        given, alone = (kept.Journal(path.with_suffix(suffix)) for suffix in (".given", ".alone"))
        is_scored = scan.target_N > 0
        loss_N = measure(read, scan.length_N, is_scored, given, track=track, phase="scoring")
        alone_N = measure(
            partial(_alone, read, prefix),
            len(prefix) + scan.target_N,
            is_scored & scan.has_instruction_N,
            alone,
            track=track,
            phase="scoring without instruction",
        )
        # A loss that overflowed in half precision is a failure, not a score.
        is_broken = is_scored & ~(np.isfinite(loss_N) & (np.isfinite(alone_N) | ~scan.has_instruction_N))
        loss_N[is_broken] = alone_N[is_broken] = np.nan
        found = loss_N, alone_N
        kept.save(path, *found)
        given.remove()
        alone.remove()
        return Scores(*found, scan.target_N, ifd)
    return Scores(*found, scan.target_N, ifd, cached=True)
