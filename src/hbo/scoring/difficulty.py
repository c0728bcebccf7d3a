"""Rows → difficulty groups: score them, sort them, cut them in equal parts.

The steps are public one by one: `score` asks the model, `score_table` and `quantiles` show what it said, and
`assign_levels` makes the groups. `stratify` does it all.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from torch import nn

from hbo.errors import ConfigError
from hbo.progress import Track, silent
from hbo.scoring.devices import Precision, device_of, scoring_autocast, uses_bf16
from hbo.scoring.levels import assign_levels, check_level_sizes
from hbo.scoring.measure import score
from hbo.scoring.models import load_model, load_tokenizer
from hbo.scoring.scores import IFD_KINDS, METRICS, Quantiles, Scores, quantiles, score_table
from hbo.scoring.tokenized import check_mixture, tokenized
from hbo.text import nearest

__all__ = ["Quantiles", "Scores", "assign_levels", "quantiles", "score", "score_table", "stratify"]

MOST_LEVELS = 1024

_score = score  # `stratify` has an argument of that name


def stratify(
    data: Dataset,
    *,
    model: str | nn.Module | None = None,
    score: str = "ifd",
    levels: int = 4,
    tokenizer: Any = None,
    max_length: int | None = 1024,
    ifd: str = "perplexity_ratio",
    reference: bool = False,
    precision: Precision = "auto",
    cache_dir: str | Path | None = None,
    track: Track = silent,
) -> Dataset:
    """Adds the column `hbo_level` to `data`: each row's difficulty group in its dataset, 0 the easiest.

    The groups of a dataset differ in size by at most one row. If a dataset has fewer rows than groups, each row is a
    group, and a warning says so. Rows without a score (plain text has no IFD) go to the hardest groups, with a warning.
    Scores are cached: the same rows and the same model are never scored twice.

    Args:
        data: What `build_mixture` returned.
        model: The model that scores: a name as in `hbo train`, or a loaded model. Not needed for a single level.
        score: `ifd`, `perplexity` or `loss`.
        levels: Groups per dataset.
        tokenizer: The scorer's tokenizer; absent: the one that belongs to the model's name.
        max_length: Tokens of a row that are scored. Rows that already have the scorer's tokens are scored whole.
        ifd: `perplexity_ratio`, or `loss_ratio` as in the authors' code.
        reference: Also add `hbo_reference`, each row's loss under the scorer (NaN without a response). Use it if the
            scorer is the model that will be trained, in the same precision: its loss needn't be measured again then.
        precision: `bf16`, `fp32`, or `auto`: bf16 where the hardware multiplies in it. Weights stay as they are.
        cache_dir: Where tokens and scores are stored; absent: `$HBO_CACHE` or `~/.cache/hbo`.
        track: Called for each row, to show progress.

    Raises:
        ConfigError: An option can't be used.
        DataError: The rows aren't from `build_mixture`, or every dataset has fewer rows than levels.
        ModelError: The scorer can't be loaded, or doesn't fit the rows.

    Example:
        >>> rows = Dataset.from_dict({"text": ["a", "b"], "hbo_dataset": ["x", "x"], "hbo_row": [0, 1]})
        >>> stratify(rows, levels=1)["hbo_level"][:]
        [0, 0]
    """
    _check_options(score, levels, ifd)
    uses_bf16("cpu", precision)  # refuses what is no precision
    check_mixture(data)
    added = {"hbo_level": np.zeros(len(data), dtype=np.int64)}
    if levels > 1 or reference:
        names = data["hbo_dataset"][:]
        check_level_sizes(Counter(names), levels)
        scorer, tokenizer = _scorer(model, tokenizer)
        folder = Path(cache_dir) if cache_dir is not None else None
        rows = tokenized(data, tokenizer, max_length, folder, track)
        with scoring_autocast(device_of(scorer), precision):
            scores = _score(rows, scorer, tokenizer, ifd=ifd, cache_dir=folder, track=track)
        added["hbo_level"] = assign_levels(names, scores, score, levels, data["hbo_row"][:])
        if reference:
            added["hbo_reference"] = scores.loss_N
    return _with_columns(data, added)


def _check_options(score: str, levels: int, ifd: str) -> None:
    for name, value, known in (("score", score, METRICS), ("ifd", ifd, IFD_KINDS)):
        if value not in known:
            raise ConfigError(f"{name} is {value!r}; choose one of {', '.join(known)}{nearest(value, known)}")
    if isinstance(levels, bool) or not isinstance(levels, int) or not 1 <= levels <= MOST_LEVELS:
        raise ConfigError(f"levels is {levels!r}; it must be a whole number from 1 to {MOST_LEVELS}")


def _scorer(model: str | nn.Module | None, tokenizer: Any) -> tuple[nn.Module, Any]:
    if model is None:
        raise ConfigError("stratify needs a scorer: give model= a name or a loaded model (only levels=1 needs none)")
    if isinstance(model, str):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return load_model(model).to(device), tokenizer or load_tokenizer(model)
    if tokenizer is None:
        raise ConfigError("model is a loaded model, so its tokenizer must be given too: tokenizer=")
    return model, tokenizer


def _with_columns(data: Dataset, columns: dict[str, np.ndarray]) -> Dataset:
    """`data` with these columns, in the place of older ones of that name."""
    was_quiet = are_progress_bars_disabled()
    disable_progress_bars()  # a selection of rows is written out first, with a bar that says nothing to the user
    try:
        data = data.remove_columns([name for name in ("hbo_level", "hbo_reference") if name in data.column_names])
        for name, values in columns.items():
            data = data.add_column(name, values)
    finally:
        if not was_quiet:
            enable_progress_bars()
    return data
