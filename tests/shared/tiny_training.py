"""Runs of a tiny model in this process: its tokenizer and rows, trainers with HBO, and what they leave."""

import importlib.util
import json
import random

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    DataCollatorForSeq2Seq,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from hbo import HBOCallback, HBOConfig
from hbo.compat import checkpointing_option
from hbo.rewards.measurer import Step

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = "alpha beta gamma delta one two three four plus minus what is the sum of colour name city river".split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HBO_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([" ".join(WORDS)], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = CHATML
    return fast


def tiny_model(dropout=0.0):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_dropout=dropout,
        eos_token_id=1,
        pad_token_id=1,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def write_rows(tmp_path):
    def write(name, count, seed=0):
        words = random.Random(f"{name}{seed}")
        file = tmp_path / f"{name}.jsonl"
        rows = [
            {
                "prompt": f"{i} " + " ".join(words.choices(WORDS, k=words.randint(2, 9))),
                "completion": " ".join(words.choices(WORDS, k=words.randint(1, 6))),
            }
            for i in range(count)
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    return write


@pytest.fixture
def config(tmp_path, model_folder, write_rows):
    def make(**changes):
        data = {
            "model": str(model_folder),
            "output": str(tmp_path / "run"),
            "mixture": {
                "temperature": 2.0,
                "datasets": {"a": {"path": str(write_rows("a", 60))}, "b": {"path": str(write_rows("b", 20))}},
            },
            "difficulty": {"groups": 2},
            "balance": {"update_every": 4, "probes": 4, "actor": {"learning_rate": 1e-3}},
            "train": {
                "max_steps": 8,
                "per_device_train_batch_size": 4,
                "learning_rate": 1e-2,
                "bf16": False,
                "save_steps": 4,
                "save_strategy": "steps",
            },
        }
        for key, value in changes.items():
            data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(data))
        return file

    return make


def token_rows(sizes=(21, 10), levels=2):
    """Tokenised rows, each recognisable by its first two tokens."""
    words = random.Random(0)
    rows = []
    for k, size in enumerate(sizes):
        for i in range(size):
            tail = [words.randrange(10, 320) for _ in range(words.randint(2, 12))]
            ids = [10 + k, 20 + i, *tail]
            labels = [-100, -100, *tail]
            rows.append({"input_ids": ids, "labels": labels, "hbo_dataset": "ab"[k], "hbo_level": i % levels})
    return Dataset.from_list(rows)


def sft_trainer(model, folder, options, rows, tokenizer, peft_config):
    """TRL's trainer, which is given tokens."""
    from trl import SFTConfig, SFTTrainer

    args = SFTConfig(folder, **{"dataset_kwargs": {"skip_prepare_dataset": True}, **options})
    return SFTTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer, peft_config=peft_config)


def plain_trainer(model, folder, options, rows, tokenizer, peft_config):
    """transformers' own trainer, which knows a part of these options only."""
    if peft_config is not None:
        from peft import get_peft_model

        model = get_peft_model(model, peft_config)
    collator = DataCollatorForSeq2Seq(tokenizer)
    args = TrainingArguments(folder, **options)
    return Trainer(model, args=args, train_dataset=rows, processing_class=tokenizer, data_collator=collator)


TRAINER = sft_trainer if importlib.util.find_spec("trl") else plain_trainer


QUIET = {
    "bf16": False,
    "report_to": "none",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "save_strategy": "no",
}
"""Training arguments of a short run on a CPU, of which nothing is kept unless a test asks for it."""


@pytest.fixture
def make_trainer(tmp_path, tokenizer):
    def make(folder="out", *, rows=None, balance=None, dropout=0.0, peft_config=None, max_passes=None, **train):
        options = {
            **QUIET,
            "per_device_train_batch_size": 4,
            "max_steps": 12,
            "learning_rate": 1e-2,
            "logging_steps": 3,
            checkpointing_option(): False,
        }
        data = token_rows() if rows is None else rows
        options |= train
        trainer = TRAINER(tiny_model(dropout), str(tmp_path / folder), options, data, tokenizer, peft_config)
        callback = HBOCallback(trainer, HBOConfig(**{**MOVING, **(balance or {})}), max_passes=max_passes)
        trainer.add_callback(callback)
        return trainer, callback

    return make


# Probabilities that move visibly within a few steps: a frozen policy would prove nothing.
MOVING = {"update_every": 2, "probes": 4, "probe_pool": 4, "actor": {"learning_rate": 3e-3}}


def step(*batches):
    """A step with these rows in its micro-batches, and no update near."""
    return Step(0, [np.array(rows) for rows in batches], sum(map(len, batches)), lambda done: False)


def weights(trainer):
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def assert_same_weights(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def ledger(folder):
    records = [json.loads(line) for line in (folder / "balance.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]
