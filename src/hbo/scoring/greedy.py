"""Greedy answers: what a model writes after a prompt when it always takes the likeliest token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import GenerationConfig

from hbo.data.tokens import IGNORED
from hbo.progress import Track, silent
from hbo.scoring.batches import Row, pack
from hbo.scoring.losses import evaluating
from hbo.scoring.placement import device_of
from hbo.scoring.room import TOKEN_BUDGET

MOST_TOKENS = 256
"""An answer ends here at the latest."""

_SPARE = 4  # tokens beyond the right answer's, so that one that is longer is seen to be


def greedy_answers(
    model: nn.Module,
    rows: Sequence[Row],
    tokenizer: Any,
    *,
    token_budget: int = TOKEN_BUDGET,
    track: Track = silent,
    phase: str = "answering",
) -> list[str]:
    """The greedy answer to the prompt of each row, which is what stands before its first target.

    Generation stops at the end-of-turn token, or a few tokens after the longest right answer of the batch would have
    ended (at most `MOST_TOKENS`): what comes later can't be a right answer any more.

    Args:
        model: A causal language model with `generate`, also wrapped by PEFT; runs in eval mode.
        rows: Token ids and labels; each has a target.
        tokenizer: Its pad and end-of-text tokens are used, and it turns the answers into text.
        token_budget: Padded tokens per batch, the answers included.
        track: Hears of each row.
        phase: What it is told is being done.

    Raises:
        Nothing of its own.
    """
    prompts = [np.asarray(ids)[: int(np.flatnonzero(labels != IGNORED)[0])] for ids, labels in rows]
    wanted_N = np.array([min(MOST_TOKENS, int((labels != IGNORED).sum()) + _SPARE) for _, labels in rows])
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
    texts: list[str] = tokenizer.batch_decode(found[:, longest:], skip_special_tokens=True)
    return texts


def _ends(model: Any, tokenizer: Any) -> list[int]:
    # Chat models end a turn with another token than a text; their generation config names both.
    known = getattr(model, "generation_config", None)
    named = getattr(known, "eos_token_id", None)
    found = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
    return sorted({int(token) for token in found if token is not None})
