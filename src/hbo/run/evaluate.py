"""Held-out loss per dataset."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from hbo.atomic import write_file
from hbo.data.cache import cache_root
from hbo.progress import Track, silent
from hbo.scoring.losses import row_losses

Scores = dict[str, dict[str, Any]]


def held_out(
    model: nn.Module, rows: Dataset, datasets: list[str], *, pad_token_id: int, phase: str, track: Track = silent
) -> Scores:
    """Dataset → `nll` (mean over rows of the mean target-token loss, nats), `perplexity` and `n`.

    Args:
        model: Runs in eval mode; under the caller's autocast, if any.
        rows: Held-out rows with `input_ids`, `labels` and `hbo_dataset`.
        datasets: Order of the result.
        pad_token_id: Any valid token id.
        phase: What the progress is called.
        track: Hears of progress.
    """
    if not len(rows):
        return {}
    loss_N = row_losses(model, rows, pad_token_id=pad_token_id, track=track, phase=phase)
    dataset_N = np.array(rows["hbo_dataset"][:])
    found: Scores = {}
    for name in datasets:
        mine = loss_N[dataset_N == name]
        if lost := int((~np.isfinite(mine)).sum()):
            warnings.warn(
                f"{phase}: {lost} of {len(mine)} rows of dataset '{name}' have a loss that is not a finite number and "
                "are left out; if training has diverged, lower train.learning_rate",
                UserWarning,
                stacklevel=2,
            )
        mine = mine[np.isfinite(mine)]
        if len(mine):
            nll = float(mine.mean())
            found[name] = {"nll": nll, "perplexity": float(np.exp(min(nll, 700.0))), "n": len(mine)}
    return found


def cached(key: str, measure: Any) -> Scores:
    """What `measure()` gave the first time under `key`; kept in the cache folder.

    The untuned model's held-out loss doesn't change between runs, nor between a run and its resumption.
    """
    file: Path = cache_root() / "held_out" / f"{key}.json"
    try:
        found: Scores = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = measure()
        write_file(file, json.dumps(found))
    return found


def averages(after: Scores, before: Scores) -> dict[str, float | None]:
    """`macro_nll`, the unweighted mean over datasets, and `relative_nll`, that of nll ÷ nll before training."""
    nll = [score["nll"] for score in after.values()]
    ratio = [after[name]["nll"] / before[name]["nll"] for name in after if before.get(name, {}).get("nll")]
    return {
        "macro_nll": float(np.mean(nll)) if nll else None,
        "relative_nll": float(np.mean(ratio)) if ratio else None,
    }


def autocast(device: torch.device, bf16: bool) -> torch.autocast:
    """bf16 autocast on `device`, or nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)
