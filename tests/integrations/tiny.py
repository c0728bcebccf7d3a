"""A tiny random Llama and two datasets for it, one easy and one hard; the same files wherever they are made.

The tokenizer has a token per byte, so that any trainer's template can be written with it. Each row holds its dataset's
mark once, so that a batch tells whose rows it holds.
"""

import json
import random
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>")
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROWS = {"easy": 96, "hard": 64}
MARKS = {"easy": "~", "hard": "^"}
"""Dataset → the character that stands once in each of its rows and nowhere else."""
MARK_IDS = {name: len(SPECIAL) + ALPHABET.index(mark) for name, mark in MARKS.items()}
"""Dataset → its mark's token."""


def write(folder):
    """Writes `model/`, and per dataset `NAME.jsonl` (instruction, input, output) and `NAME.chat.jsonl` (messages)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder / "model")
    for name, count in ROWS.items():
        rows = [_row(name, number) for number in range(count)]
        plain = [{"instruction": asked, "input": "", "output": answer} for asked, answer in rows]
        chat = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in rows]
        _write_lines(folder / f"{name}.jsonl", plain)
        _write_lines(folder / f"{name}.chat.jsonl", [{"messages": messages} for messages in chat])


def write_model(folder):
    """Writes the model and its tokenizer."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"vocab_size": 272, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    LlamaForCausalLM(LlamaConfig(**sizes, **ids, max_position_embeddings=1024)).save_pretrained(folder)
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *ALPHABET])}
    bytes_ = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    bytes_.add_special_tokens(list(SPECIAL))
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_, **named)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)


def _row(name, number):
    draw = random.Random(f"{name}-{number}")
    letters = "".join(draw.choices(string.ascii_lowercase, k=draw.randint(4, 24)))
    answer = "ab" * draw.randint(3, 9) if name == "easy" else letters[::-1]
    return f"{MARKS[name]} {letters}", answer


def _write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
