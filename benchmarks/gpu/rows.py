"""Random rows, and a tokenizer that needs no download: one token per byte."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hbo.scoring.batches import pad, reader

from .machine import device

PAD = 1
_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_FIRST = 2  # below it are the special tokens


def random_rows(
    lengths: Sequence[int], vocabulary: int, *, datasets: int = 4, levels: int = 4, seed: int = 0
) -> Dataset:
    """Rows of these lengths, a third of each an instruction; every group gets its share of every length."""
    random = np.random.default_rng(seed)
    found = []
    for number, length in enumerate(lengths):
        ids = random.integers(_FIRST, vocabulary, length)
        labels = np.where(np.arange(length) < length // 3, -100, ids)
        cell = number % (datasets * levels)
        found.append(
            {
                "input_ids": ids.tolist(),
                "labels": labels.tolist(),
                "hbo_dataset": "abcdefgh"[cell // levels],
                "hbo_level": cell % levels,
                "hbo_row": number,
            }
        )
    return Dataset.from_list(found)


def batch_of(rows: Dataset, numbers: Sequence[int]) -> dict[str, torch.Tensor]:
    """These rows as one padded batch on the device in use."""
    batch = pad(reader(rows)(np.array(numbers)), PAD)
    return {name: tensor.to(device()) for name, tensor in batch.items()}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """258 tokens: every byte and the two marks of a chat."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: i for i, token in enumerate(["<|im_start|>", "<|im_end|>", *alphabet])}
    plain = Tokenizer(models.BPE(vocab=words, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    plain.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = _CHAT
    return fast


def write_sums(folder: Path, names: Sequence[str], count: int) -> None:
    """A JSONL file of small sums for each name, where the demo's rows aren't wanted."""
    folder.mkdir(parents=True, exist_ok=True)
    for shift, name in enumerate(names):
        rows = [{"prompt": f"{name}: {i} + {shift}?", "completion": str(i + shift)} for i in range(count)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
