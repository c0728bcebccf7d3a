"""The page of the documentation that says how each architecture is measured, out of the benchmark's records."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import peft
import torch
import transformers

from support.tiny_adapters import OF_LLAMA
from support.tiny_architectures import LOOKS

Record = dict[str, Any]
FULL = {"full": "", "untied": "untied embeddings", "tied": "tied embeddings"}
LORA = {"lora": "all linear layers", "lora-attention": "attention only", "lora-experts": "experts too"}
NAMES = {
    "dora": "DoRA",
    "rslora": "LoRA, `use_rslora`",
    "lora-biases": "LoRA, `bias: lora_only`",
    "lora-embeddings": "LoRA on `embed_tokens` and linear layers",
    "lora-head": "LoRA on `lm_head` and linear layers",
    "lora-modules-to-save": "LoRA, `modules_to_save: [lm_head]`",
    "lora-trainable-tokens": "LoRA, `trainable_token_indices`",
    "prompt-tuning": "prompt tuning",
    "ia3": "IA³",
    "checkpointed": "full fine-tuning, activation checkpointing",
    "checkpointed-reentrant": "the same, `use_reentrant: true`",
    "lora-checkpointed": "LoRA, activation checkpointing",
    "lora-checkpointed-reentrant": "the same, `use_reentrant: true`",
}
HEAD = """# Architectures

How hbo measures the gradient norm of each row in the causal language models of transformers {transformers} (with peft
{peft} and torch {torch}). Each model is tiny and random, built from its configuration alone, with a layer of each kind
that the configuration knows. All norms are compared with those that autograd gives for one row at a time, without
padding, in fp32: the largest relative error of {variants} comparisons is {error:.1e}.
`python benchmarks/architectures.py --table docs/architectures.md` writes this page.

- **batched**: the norms of a whole batch come from one forward and one backward. The parameters listed after "again"
  belong to layers that then run once more for each row by itself.
- **rows**: each row has its own forward and backward, which is slower and just as exact. The parameter that makes this
  necessary, or the reason, follows in brackets.

Of {architectures} architectures, {full} are batched in full fine-tuning and {lora} with LoRA on all linear layers.

| architecture | full fine-tuning | LoRA |
|---|---|---|
"""
NOTES = """
¹ The loss that this model itself returns isn't the mean over the next tokens (most of these models don't shift their
labels). The norm here is still that of the gradient of the mean over the next tokens.

² This model also reads the padding after a row, so a row's loss depends on the length of the batch. Its norm is
compared with that of the same row either in the batch or alone.

PEFT can't put adapters on some layers, so "LoRA on all linear layers" leaves them out: `out_proj` of Mamba layers, the
routers of Llama 4 and Phi-3.5-MoE, `o_a_proj` of DeepSeek-V4. If a model has parts for images or sound, these are built
but get no input.

## Other ways of training, on Llama

| way | measured |
|---|---|
"""


def page(found: list[Record], skipped: dict[str, str]) -> str:
    """The page as Markdown."""
    by_name: dict[str, dict[str, Record]] = {}
    for record in found:
        by_name.setdefault(record["architecture"], {})[record["variant"]] = record
    head = HEAD.format(
        transformers=transformers.__version__,
        peft=peft.__version__,
        torch=torch.__version__.partition("+")[0],
        variants=sum("error" in record for record in found),
        error=max((record["error"] for record in found if "error" in record), default=0),
        architectures=len(by_name),
        full=sum(fast(ways, FULL) for ways in by_name.values()),
        lora=sum(fast(ways, ["lora"]) for ways in by_name.values()),
    )
    rows = [f"| `{name}`{marks(ways)} | {cell(ways, FULL)} | {cell(ways, LORA)} |" for name, ways in by_name.items()]
    llama = by_name.get("llama", {})
    others = [f"| {NAMES[variant]} | {sentence(llama[variant])} |" for variant in OF_LLAMA if variant in llama]
    why = [f"| `{name}` | {reason} |" for name, reason in skipped.items()]
    left_out = ["", "## Not built", "", "| architecture | why |", "|---|---|", *why, ""]
    return head + "\n".join(rows) + "\n" + NOTES + "\n".join([*others, *left_out])


def fast(ways: dict[str, Record], variants: Iterable[str]) -> bool:
    """Whether all of these variants were measured in batches."""
    return all(ways[variant]["outcome"] == "fast" for variant in variants if variant in ways)


def marks(ways: dict[str, Record]) -> str:
    """The numbers of the notes that hold for an architecture."""
    looks = any(record.get("padding_gap", 0) > LOOKS for record in ways.values())
    other = any(record.get("own_loss_gap", 0) > LOOKS for record in ways.values())
    return "¹" * other + "²" * looks


def cell(ways: dict[str, Record], variants: dict[str, str]) -> str:
    """How an architecture was measured in these variants: once if they are alike, else each by its name."""
    said = {variants[variant]: sentence(ways[variant]) for variant in variants if variant in ways}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return "<br>".join(f"{name}: {words}" if name else words for name, words in said.items())


def sentence(record: Record) -> str:
    """How one variant was measured."""
    why, outcome = record.get("why", ""), record["outcome"]
    if outcome == "fast":
        again = sorted({short(name) for name in record["rerun"]})
        return "batched" + (f", again: {', '.join(f'`{name}`' for name in again)}" if again else "")
    if outcome == "rows":
        named = re.match(r"'(.+?)'", why)
        return f"rows (`{short(named[1])}`)" if named else f"rows ({why})"
    words = {"wrong": "**wrong**", "raises": "refused", "not built": "not built", "not trainable": "can't be trained"}
    return words[outcome] + (f": {why.replace('|', '/')}" if why else "")


def short(parameter: str) -> str:
    """The last two names of a parameter, without the number of its layer and what PEFT adds."""
    names = [name for name in parameter.split(".") if not name.isdigit() and name not in ("default", "base_layer")]
    return ".".join(names[-3:] if names[-2:-1] in (["lora_A"], ["lora_B"]) else names[-2:])
