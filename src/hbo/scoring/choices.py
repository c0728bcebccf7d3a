"""Multiple choice by likelihood: which option a model finds most likely, per character of the option.

After lm-eval's `acc_norm` (EleutherAI, lm-evaluation-harness): the log-likelihood of the option's tokens given the
prompt, over the option's length in characters. As there, the end-of-turn token doesn't count, which an option that
goes on would lack. Letters: B options of a batch, N questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from hbo.data.chat import Renderer
from hbo.data.tokens import IGNORED, targets_of
from hbo.progress import Track, silent
from hbo.scoring.batches import Row, pack
from hbo.scoring.losses import batch_losses, evaluating
from hbo.scoring.room import TOKEN_BUDGET


@dataclass(frozen=True)
class Question:
    """A multiple-choice row in tokens.

    Attributes:
        rows: Token ids and labels of the prompt with each option; labels are the option's own tokens alone.
        characters: Length of each option.
    """

    rows: tuple[Row, ...]
    characters: tuple[int, ...]


def encode(
    prompt: Sequence[Mapping[str, Any]],
    options: Sequence[str],
    tokenizer: Any,
    where: str,
    given: Mapping[str, Any] | None = None,
) -> Question:
    """The question's prompt with each of its options, by the tokenizer's chat template.

    Args:
        prompt: Messages before the answer.
        options: What the answer may be, word for word.
        tokenizer: A fast one.
        where: Named in errors.
        given: What the template gets beside the messages, such as `tools`.

    Raises:
        DataError: The chat template refuses the conversation.
    """
    rows, renderer = [], Renderer(tokenizer)
    for option in options:
        text, spans = renderer.answers(prompt, [{"role": "assistant", "content": option}], where, given)
        start, end = spans[-1]
        at = text.find(option, start, end)
        # A template that writes the option otherwise (escaped, say) leaves only the whole turn to score.
        spans = [(start, end)] if at < 0 else [(at, at + len(option))]
        found = tokenizer([text], add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, is_target = targets_of(found["input_ids"][0], found["offset_mapping"][0], spans)
        is_target[:1] = False  # nothing stands before the first token to predict it from
        last = int(np.flatnonzero(is_target)[-1]) + 1 if is_target.any() else len(ids)
        rows.append((ids[:last], np.where(is_target, ids, IGNORED)[:last]))
    return Question(tuple(rows), tuple(len(option) for option in options))


def chosen(
    model: nn.Module,
    questions: Sequence[Question],
    *,
    pad_token_id: int,
    token_budget: int = TOKEN_BUDGET,
    track: Track = silent,
    phase: str = "choosing",
) -> np.ndarray:
    """The option (N,) of each question with the highest log-likelihood per character; −1 where none is finite.

    Args:
        model: As in `per_example_loss`; it runs in eval mode, under the caller's autocast if there is one.
        questions: As `encode` gives them.
        pad_token_id: Any valid id; padding is masked.
        token_budget: Padded tokens per batch.
        track: Hears of each option.
        phase: What it is told is being done.

    Raises:
        Nothing of its own.
    """
    rows = [row for question in questions for row in question.rows]
    if not rows:
        return np.empty(0, dtype=np.int64)
    per_option = np.full(len(rows), np.nan)
    length = np.array([len(ids) for ids, _ in rows])
    with track(phase, len(rows)) as advance, evaluating(model):
        for batch in pack(length, np.arange(len(rows)), token_budget):
            per_option[batch] = batch_losses(model, [rows[i] for i in batch], pad_token_id)
            advance(len(batch))
    targets = np.array([(labels != IGNORED).sum() for _, labels in rows])
    characters = np.array([count for question in questions for count in question.characters])
    score = np.where(np.isfinite(per_option), -per_option * targets / characters, -np.inf)
    ends = np.cumsum([len(question.rows) for question in questions])[:-1]
    parts = np.split(score, ends)
    return np.array([int(part.argmax()) if np.isfinite(part).any() else -1 for part in parts])
