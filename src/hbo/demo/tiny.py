"""A small language model for sweeps: a Llama with a tokenizer of its own, pre-trained in minutes on the demo's corpora.

It is built once into the cache, under a name that stands for its recipe. The text is that of `pretraining_texts`, so
that whatever a mixture of the demo holds out is new to it; its format is plain, so chats are new to it too.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    DataCollatorForLanguageModeling,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback
from trl import pack_dataset

from hbo.atomic import new_folder
from hbo.compat import accelerator
from hbo.data.cache import cache_root
from hbo.demo import corpora
from hbo.progress import Track, silent
from hbo.run.model import quiet_libraries
from hbo.scoring.devices import scoring_autocast, uses_bf16
from hbo.scoring.losses import row_losses

SUMMARY = "tiny.json"
"""The file in the model's folder that says how it was built and how well it learned."""

_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_PAD, _START, _END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_COMPARED = 300  # texts of the mixture on which the loss is compared with the baseline's


@dataclass(frozen=True)
class Recipe:
    """What the model is built from; another recipe is another model beside the first.

    Attributes:
        vocabulary: Tokens, those of the chat template included.
        hidden: Width.
        intermediate: Width inside the MLPs.
        layers: Blocks.
        heads: Attention heads; keys and values have half as many.
        block: Tokens of a training sequence.
        batch: Sequences of a step.
        steps: Optimizer steps.
        learning_rate: At its highest; warmed up, then a cosine down.
        texts: How many texts to train on, evenly chosen; None: all.
        seed: Of the first weights and of the order.
    """

    vocabulary: int = 8192
    hidden: int = 256
    intermediate: int = 768
    layers: int = 4
    heads: int = 4
    block: int = 256
    batch: int = 8
    steps: int = 800
    learning_rate: float = 3e-3
    texts: int | None = None
    seed: int = 0

    @property
    def digest(self) -> str:
        """What stands for this recipe and the text it is cooked from."""
        content = json.dumps([asdict(self), corpora.source(), _CHATML], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def tiny_folder(recipe: Recipe = Recipe(), cache_dir: Path | None = None) -> Path:
    """Where the model lies once it is built; a folder that is there is whole."""
    return (cache_dir or cache_root()) / "models" / f"tiny-{recipe.digest}"


def build(recipe: Recipe = Recipe(), *, cache_dir: Path | None = None, track: Track = silent) -> Path:
    """The model's folder, which transformers can load; built unless it is there.

    The same recipe gives the same bytes on the same machine with the same number of threads.

    Args:
        recipe: What to build.
        cache_dir: Where it goes; absent: hbo's cache.
        track: Hears of every phase.

    Raises:
        DataError: The corpora can't be fetched, or the cache can't be written to.
    """
    folder = tiny_folder(recipe, cache_dir)
    if folder.is_dir():
        return folder
    quiet_libraries()
    began = time.perf_counter()
    texts = _evenly(corpora.pretraining_texts(cache_dir=cache_dir, track=track), recipe.texts)
    unseen = _evenly(_mixture_texts(cache_dir, track), _COMPARED)
    tokenizer = _tokenizer(texts, recipe, track)
    model = _untrained(recipe, tokenizer)
    summary = {
        "recipe": asdict(recipe),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "texts": len(texts),
        "loss_untrained": _loss(model, tokenizer, unseen, recipe, track),
    }
    _train(model, tokenizer, texts, recipe, track)
    summary |= {
        "loss": _loss(model, tokenizer, unseen, recipe, track),
        "loss_unigram": _unigram_loss(tokenizer, texts, unseen, recipe),
    }
    with new_folder(folder) as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        summary["seconds"] = round(time.perf_counter() - began, 1)
        (staging / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return folder


def build_all(track: Track = silent) -> str:
    """What to tell about the model and its datasets, both made unless they are there.

    Raises:
        DataError: The corpora can't be fetched, or the cache can't be written to.
    """
    folder = build(track=track)
    data = corpora.write_datasets(corpora.TINY, track=track)
    told = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    before, after, unigram = (f"{told[key]:.2f}" for key in ("loss_untrained", "loss", "loss_unigram"))
    return (
        f"model   {folder}\ndata    {data}\n{told['parameters']:,} parameters, built in {told['seconds']:.0f} s; loss "
        f"per token on texts never trained on: {before} before pre-training, {after} after, {unigram} by frequency"
    )


def _mixture_texts(cache_dir: Path | None, track: Track) -> list[str]:
    files = sorted(corpora.write_datasets(corpora.TINY, cache_dir=cache_dir, track=track).glob("*.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [f"{row['prompt']}\n{row['completion']}" for row in rows]


def _evenly(texts: Sequence[str], count: int | None) -> list[str]:
    count = min(len(texts) if count is None else count, len(texts))
    return [texts[i * len(texts) // count] for i in range(count)]


def _tokenizer(texts: Sequence[str], recipe: Recipe, track: Track) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    # Digits one by one, so that every number is spelt in one way.
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[_PAD, _START, _END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    with track("training the tokenizer", 1) as advance:
        bpe.train_from_iterator(texts, trainer)
        advance(1)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=_PAD, eos_token=_END)
    tokenizer.chat_template = _CHATML
    return tokenizer


def _untrained(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=max(1, recipe.heads // 2),
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _train(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], recipe: Recipe, track: Track
) -> None:
    ids = [[*found, tokenizer.eos_token_id] for found in tokenizer(list(texts))["input_ids"]]
    rows = Dataset.from_dict({"input_ids": ids}).shuffle(seed=recipe.seed)
    with tempfile.TemporaryDirectory() as scratch, track("pre-training the model", recipe.steps) as advance:
        args = TrainingArguments(
            scratch,
            max_steps=recipe.steps,
            per_device_train_batch_size=recipe.batch,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            weight_decay=0.1,
            seed=recipe.seed,
            bf16=uses_bf16(accelerator() or "cpu", "auto"),
            use_cpu=accelerator() is None,
            dataloader_pin_memory=torch.cuda.is_available(),
            disable_tqdm=True,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
        )
        # Not SFTTrainer, whose entropy of every token takes as long again as the step.
        trainer = Trainer(
            model,
            args=args,
            train_dataset=pack_dataset(rows, recipe.block, "wrapped"),
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
            callbacks=[_Advance(advance)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


class _Advance(TrainerCallback):
    def __init__(self, advance: object) -> None:
        self.advance = advance

    def on_step_end(self, *_: object, **__: object) -> None:
        self.advance(1)  # type: ignore[operator]


def _rows(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], recipe: Recipe) -> list[dict[str, list[int]]]:
    encoded = tokenizer(list(texts), truncation=True, max_length=recipe.block)["input_ids"]
    return [{"input_ids": ids, "labels": [-100, *ids[1:]]} for ids in encoded if len(ids) > 1]


def _loss(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], recipe: Recipe, track: Track
) -> float:
    """The mean over all tokens of these texts, in nats."""
    rows = _rows(tokenizer, texts, recipe)
    weight_N = np.array([len(row["input_ids"]) - 1 for row in rows])
    with scoring_autocast(model.device, "auto"):
        loss_N = row_losses(
            model, rows, pad_token_id=int(tokenizer.pad_token_id), track=track, phase="loss on texts never trained on"
        )
    return float(np.average(loss_N, weights=weight_N))


def _unigram_loss(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], unseen: Sequence[str], recipe: Recipe
) -> float:
    """The same under token frequencies alone, each counted once more than it was seen."""
    seen = np.concatenate([np.asarray(ids) for ids in tokenizer(list(texts))["input_ids"]])
    count_V = np.bincount(seen, minlength=len(tokenizer)) + 1
    targets = np.concatenate([row["labels"][1:] for row in _rows(tokenizer, unseen, recipe)])
    return float(-np.log(count_V / count_V.sum())[targets].mean())
