"""What is measured on a run's held-out rows, before training and after it: loss and accuracy of each dataset.

Rows whose answer is multiple choice or a number have an accuracy. Letters: N rows.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from trl import SFTConfig

from hbo.atomic import write_file
from hbo.data.answers import Choice, NumberAnswer, right_answer
from hbo.data.cache import cache_root
from hbo.data.canonical import Conversation, conversation_of
from hbo.progress import Track, silent
from hbo.run.rows import Data
from hbo.scoring.answering import greedy_answers, likeliest_options, question_of
from hbo.scoring.batches import reader
from hbo.scoring.fingerprint import content_fingerprint, model_fingerprint
from hbo.scoring.losses import row_losses

_VERSION = "1"  # part of the cache's key: raised when the same model gets another accuracy on the same rows

ByDataset = dict[str, dict[str, Any]]
"""Dataset → what was measured, by name."""


@dataclass(frozen=True)
class HeldOut:
    """Measures a model on a run's held-out rows; what comes back is (losses, accuracies)."""

    data: Data
    tokenizer: Any
    """The one that the rows were tokenised with."""
    args: SFTConfig
    """For device and precision."""
    asks: bool
    """Whether accuracy is wanted."""
    track: Track

    def before(self, model: nn.Module) -> tuple[ByDataset, ByDataset]:
        """Those of the untuned model; found again in the cache folder when the same model meets the same rows."""
        key = self._key(model)
        return self._measured(model, "before", lambda kind, measure: cached(key + kind, measure))

    def after(self, model: nn.Module) -> tuple[ByDataset, ByDataset]:
        """Those of the trained model."""
        return self._measured(model, "after", lambda _, measure: measure())

    def _key(self, model: nn.Module) -> str:
        rows, args = self.data.held_out, self.args
        content = content_fingerprint(rows, ["input_ids", "labels", "hbo_dataset"]) if len(rows) else "none"
        return f"{model_fingerprint(model)}-{content}-{'bf16' if args.bf16 else 'fp32'}-{args.device.type}"

    def _measured(
        self, model: nn.Module, when: str, result_of: Callable[[str, Callable[[], ByDataset]], ByDataset]
    ) -> tuple[ByDataset, ByDataset]:
        rows, names, tokenizer, length = self.data.held_out, list(self.data.sizes), self.tokenizer, self.data.max_length
        pad = int(tokenizer.pad_token_id)

        def losses() -> ByDataset:
            phase = f"held-out loss {when}"
            return held_out_losses(model, rows, names, pad_token_id=pad, phase=phase, track=self.track)

        def answers() -> ByDataset:
            phase = f"held-out answers {when}"
            return accuracy(model, rows, names, tokenizer, max_length=length, phase=phase, track=self.track)

        with torch.autocast(self.args.device.type, dtype=torch.bfloat16, enabled=bool(self.args.bf16)):
            found = result_of("", losses)
            return found, result_of(f"-accuracy{_VERSION}-{length}", answers) if self.asks else {}


def cached(key: str, measure: Callable[[], ByDataset]) -> ByDataset:
    """What `measure()` gave the first time under `key`; kept in the cache folder.

    The untuned model's held-out loss doesn't change between runs, nor between a run and its resumption.
    """
    file: Path = cache_root() / "held_out" / f"{key}.json"
    try:
        found: ByDataset = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = measure()
        write_file(file, json.dumps(found))
    return found


def averages(after: ByDataset, before: ByDataset) -> dict[str, float | None]:
    """`macro_nll`, the unweighted mean over datasets, and `relative_nll`, that of nll ÷ nll before training."""
    nll = [score["nll"] for score in after.values()]
    ratio = [after[name]["nll"] / before[name]["nll"] for name in after if before.get(name, {}).get("nll")]
    return {
        "macro_nll": float(np.mean(nll)) if nll else None,
        "relative_nll": float(np.mean(ratio)) if ratio else None,
    }


def held_out_losses(
    model: nn.Module, rows: Dataset, datasets: list[str], *, pad_token_id: int, phase: str, track: Track = silent
) -> ByDataset:
    """Dataset → `nll` (mean over rows of the mean target-token loss, nats), `perplexity` and `n`.

    The model runs in eval mode, under the caller's autocast, if any. `phase` is what the progress is called.
    """
    if not len(rows):
        return {}
    loss_N = row_losses(model, rows, pad_token_id=pad_token_id, track=track, phase=phase)
    dataset_N = np.array(rows["hbo_dataset"][:])
    found: ByDataset = {}
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


def accuracy(
    model: nn.Module,
    rows: Dataset,
    datasets: list[str],
    tokenizer: Any,
    *,
    max_length: int | None,
    phase: str,
    track: Track = silent,
) -> ByDataset:
    """Dataset → `accuracy`, `n` and `kind` (`choice`, `numeric` or `mixed`); one without such rows is absent.

    The model runs as for the losses. A question that is longer than `max_length` with one of its options isn't asked.

    Raises:
        DataError: The chat template refuses a row.
    """
    if not len(rows):
        return {}
    right_N, kind_N = np.full(len(rows), np.nan), np.full(len(rows), "", dtype=object)
    for kind, right in (
        ("choice", _choices(model, rows, tokenizer, max_length, phase, track)),
        ("numeric", _numbers(model, rows, tokenizer, phase, track)),
    ):
        for i, is_right in right.items():
            right_N[i], kind_N[i] = is_right, kind
    dataset_N = np.array(rows["hbo_dataset"][:])
    found: ByDataset = {}
    for name in datasets:
        mine = (dataset_N == name) & (kind_N != "")
        if mine.any():
            kinds = sorted(set(kind_N[mine]))
            kind = kinds[0] if len(kinds) == 1 else "mixed"
            found[name] = {"accuracy": float(right_N[mine].mean()), "n": int(mine.sum()), "kind": kind}
    return found


def _choices(
    model: nn.Module, rows: Dataset, tokenizer: Any, max_length: int | None, phase: str, track: Track
) -> dict[int, bool]:
    """Number of a multiple-choice row → whether the model prefers its right option."""
    asked = {}
    for i, row, turns, answer in _answers(rows, Choice):
        where = f"dataset '{row['hbo_dataset']}', row {row['hbo_row']}"
        question = question_of(turns.prompt, answer.options, tokenizer, where, turns.given)
        if max_length is None or max(len(ids) for ids, _ in question.rows) <= max_length:
            asked[i] = question, answer.right
    if not asked:
        return {}
    questions = [question for question, _ in asked.values()]
    picked = likeliest_options(model, questions, pad_token_id=int(tokenizer.pad_token_id), track=track, phase=phase)
    return {i: int(pick) == right for (i, (_, right)), pick in zip(asked.items(), picked, strict=True)}


def _numbers(model: nn.Module, rows: Dataset, tokenizer: Any, phase: str, track: Track) -> dict[int, bool]:
    """Number of a row with a numeric answer → whether the model writes that."""
    found = {i: number for i, _, _, number in _answers(rows, NumberAnswer)}
    if not found:
        return {}
    written = greedy_answers(model, reader(rows)(np.array(list(found))), tokenizer, track=track, phase=phase)
    return {i: number.equals(text) for (i, number), text in zip(found.items(), written, strict=True)}


def _answers(rows: Dataset, kind: type) -> Iterator[tuple[int, dict[str, Any], Conversation, Any]]:
    """Number, row, conversation and right answer of each row that has an answer of this kind."""
    tokens = [name for name in ("input_ids", "labels") if name in rows.column_names]
    for i, row in enumerate(rows.remove_columns(tokens)):
        turns = conversation_of(row)
        answer = right_answer(turns.prompt, turns.completion)
        if isinstance(answer, kind):
            yield i, row, turns, answer
