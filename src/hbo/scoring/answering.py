"""How a model answers: which option of a multiple choice it finds likeliest, and what it writes after a prompt.

Options are compared as lm-eval's `acc_norm` does (EleutherAI, lm-evaluation-harness): by the log-likelihood of the
option's tokens given the prompt, over the option's length in characters. As there, the end-of-turn token doesn't count,
which an option that goes on would lack. What a model writes is greedy: always the likeliest token.

Letters: B options or rows of a batch, N questions or rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import GenerationConfig

from hbo.data.chat import Renderer
from hbo.data.tokens import IGNORED, predicts_target, targets_of
from hbo.progress import Track, silent
from hbo.scoring.batches import TokenRow, pack
from hbo.scoring.devices import device_of
from hbo.scoring.losses import batch_losses, evaluating
from hbo.scoring.room import TOKEN_BUDGET

MOST_ANSWER_TOKENS = 256
"""An answer ends here at the latest."""

_SPARE = 4  # tokens beyond the right answer's, so that one that is longer is seen to be


@dataclass(frozen=True)
class Question:
    """A multiple-choice row in tokens."""

    rows: tuple[TokenRow, ...]
    """Token ids and labels of the prompt with each option; labels are the option's own tokens alone."""
    characters: tuple[int, ...]
    """Length of each option."""


def question_of(
    prompt: Sequence[Mapping[str, Any]],
    options: Sequence[str],
    tokenizer: Any,
    where: str,
    given: Mapping[str, Any] | None = None,
) -> Question:
    """The question's prompt with each of its options, by the chat template of a fast tokenizer.

    Raises:
        DataError: The chat template refuses the conversation, which is the one at `where`.
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


def likeliest_options(
    model: nn.Module,
    questions: Sequence[Question],
    *,
    pad_token_id: int,
    token_budget: int = TOKEN_BUDGET,
    track: Track = silent,
    phase: str = "choosing",
) -> np.ndarray:
    """The option (N,) of each question with the highest log-likelihood per character; −1 where none is finite.

    The model runs in eval mode, under the caller's autocast if there is one, on at most `token_budget` padded tokens.
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
    targets = np.array([predicts_target(labels).sum() for _, labels in rows])
    characters = np.array([count for question in questions for count in question.characters])
    score = np.where(np.isfinite(per_option), -per_option * targets / characters, -np.inf)
    parts = np.split(score, np.cumsum([len(question.rows) for question in questions])[:-1])
    return np.array([int(part.argmax()) if np.isfinite(part).any() else -1 for part in parts])


def greedy_answers(
    model: nn.Module,
    rows: Sequence[TokenRow],
    tokenizer: Any,
    *,
    token_budget: int = TOKEN_BUDGET,
    track: Track = silent,
    phase: str = "answering",
) -> list[str]:
    """The greedy answer to the prompt of each row, which is what stands before its first target.

    Generation stops at the end-of-turn token, or a few tokens after the longest right answer of the batch would have
    ended (at most `MOST_ANSWER_TOKENS`): what comes later can't be a right answer any more.

    Args:
        model: A causal language model with `generate`, also wrapped by PEFT; runs in eval mode.
        rows: Token ids and labels; each has a target.
        tokenizer: Its pad and end-of-text tokens are used, and it turns the answers into text.
        token_budget: Padded tokens per batch, the answers included.
        track: Hears of each row.
        phase: The name it hears them under.
    """
    prompts = [np.asarray(ids)[: int(predicts_target(labels).argmax()) + 1] for ids, labels in rows]
    wanted_N = np.array([min(MOST_ANSWER_TOKENS, int(predicts_target(labels).sum()) + _SPARE) for _, labels in rows])
    answers = [""] * len(rows)
    with track(phase, len(rows)) as advance, evaluating(model), torch.no_grad():
        for rows_B in pack(np.array([len(p) for p in prompts]) + wanted_N, np.arange(len(rows)), token_budget):
            new_tokens = int(wanted_N[rows_B].max())
            texts = _generate(model, [prompts[i] for i in rows_B], tokenizer, new_tokens)
            for i, text in zip(rows_B, texts, strict=True):
                answers[i] = text
            advance(len(rows_B))
    return answers


def _generate(model: Any, prompts: Sequence[np.ndarray], tokenizer: Any, new_tokens: int) -> list[str]:
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), longest), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for i, prompt in enumerate(prompts):  # padded on the left: all answers begin in the same column
        ids[i, longest - len(prompt) :] = torch.tensor(prompt)
        mask[i, longest - len(prompt) :] = 1
    device = device_of(model)
    settings = GenerationConfig(
        max_new_tokens=new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=_ends(model, tokenizer),
    )
    found = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=settings)
    return list(tokenizer.batch_decode(found[:, longest:], skip_special_tokens=True))


def _ends(model: Any, tokenizer: Any) -> list[int]:
    # Chat models end a turn with another token than a text; their generation config names both.
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
    return sorted({int(token) for token in found if token is not None})
