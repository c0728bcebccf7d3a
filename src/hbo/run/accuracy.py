"""Accuracy per dataset on the held-out rows whose answer is multiple choice or a number."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset
from torch import nn

from hbo.data.answers import Choice, Number, right_answer
from hbo.data.canonical import conversation_of
from hbo.progress import Track, silent
from hbo.run.evaluate import Scores
from hbo.scoring.answering import chosen, encode, greedy_answers
from hbo.scoring.batches import reader

VERSION = "1"
"""Part of the cache's key: raised when the same model gets another accuracy on the same rows."""


def accuracy(
    model: nn.Module,
    rows: Dataset,
    datasets: list[str],
    tokenizer: Any,
    *,
    max_length: int | None,
    phase: str,
    track: Track = silent,
) -> Scores:
    """Dataset → `accuracy`, `n` and `kind` (`choice`, `numeric` or `mixed`); one without such rows is absent.

    Args:
        model: Runs in eval mode; under the caller's autocast, if any.
        rows: Held-out rows, canonical and tokenised.
        datasets: Order of the result.
        tokenizer: The one that `rows` were tokenised with.
        max_length: A question that is longer with one of its options isn't asked; None: all are.
        phase: What the progress is called.
        track: Hears of progress.

    Raises:
        DataError: The chat template refuses a row.
    """
    if not len(rows):
        return {}
    right_N = _choices(model, rows, tokenizer, max_length, phase, track)
    numeric_N = _numbers(model, rows, tokenizer, phase, track)
    dataset_N = np.array(rows["hbo_dataset"][:])
    found: Scores = {}
    for name in datasets:
        mine = dataset_N == name
        chose, wrote = (a[mine & np.isfinite(a)] for a in (right_N, numeric_N))
        both = np.concatenate([chose, wrote])
        if len(both):
            kind = "mixed" if len(chose) and len(wrote) else "choice" if len(chose) else "numeric"
            found[name] = {"accuracy": float(both.mean()), "n": len(both), "kind": kind}
    return found


def _choices(
    model: nn.Module, rows: Dataset, tokenizer: Any, max_length: int | None, phase: str, track: Track
) -> np.ndarray:
    """1 or 0 (N,) for each multiple-choice row, NaN elsewhere."""
    right_N = np.full(len(rows), np.nan)
    at, questions, right = [], [], []
    for i, row in enumerate(_canonical(rows)):
        turns = conversation_of(row)
        answer = right_answer(turns.prompt, turns.completion)
        if not isinstance(answer, Choice):
            continue
        where = f"dataset '{row['hbo_dataset']}', row {row['hbo_row']}"
        question = encode(turns.prompt, answer.options, tokenizer, where, turns.given)
        if max_length is None or max(len(ids) for ids, _ in question.rows) <= max_length:
            at.append(i)
            questions.append(question)
            right.append(answer.right)
    if at:
        picked = chosen(model, questions, pad_token_id=int(tokenizer.pad_token_id), track=track, phase=phase)
        right_N[at] = picked == np.array(right)
    return right_N


def _numbers(model: nn.Module, rows: Dataset, tokenizer: Any, phase: str, track: Track) -> np.ndarray:
    """1 or 0 (N,) for each row with a numeric answer, NaN elsewhere."""
    right_N = np.full(len(rows), np.nan)
    found = [
        (i, answer)
        for i, row in enumerate(_canonical(rows))
        if isinstance(answer := right_answer(*conversation_of(row)[:2]), Number)
    ]
    if found:
        asked = reader(rows)(np.array([i for i, _ in found]))
        written = greedy_answers(model, asked, tokenizer, track=track, phase=phase)
        right_N[[i for i, _ in found]] = [number.equals(text) for (_, number), text in zip(found, written, strict=True)]
    return right_N


def _canonical(rows: Dataset) -> Dataset:
    return rows.remove_columns([name for name in ("input_ids", "labels") if name in rows.column_names])
