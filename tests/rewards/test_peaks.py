"""The peak of an update stays below what the training step that it interrupts needs, within 1.2 times.

Bytes of live tensors are counted exactly, in the forward and in the backward (`Alive`). A training step is given a head
that costs nothing, so that it is the least that any trainer needs; an update's head passes a slice of that little too.
"""

from __future__ import annotations

import contextlib
import gc

import pytest
import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.profiler import ProfilerActivity, profile

from hbo.check.weightless import Alive
from hbo.rewards.gradients import gradient_norms_and_losses, looped_gradient_norms, settle
from hbo.scoring import head

ROWS, TOKENS, WORDS = 4, 256, 1024
MORE = 1.2
SIZES = {
    "vocab_size": WORDS, "hidden_size": 96, "intermediate_size": 256, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": TOKENS,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _slices_as_small_beside_the_model_as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(head, "_CPU_SLICE", 2**15)


def model_of(kind, checkpointing, dtype, layers=6, tied=False):
    torch.manual_seed(0)
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES, num_hidden_layers=layers, tie_word_embeddings=tied)).to(dtype)
    if checkpointing == "transformers":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if checkpointing:
        model.enable_input_require_grads()
    if kind != "full":
        model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear"))
        model = model.to(dtype) if kind == "lora" else model  # of QLoRA the adapter alone is in fp32
    if checkpointing == "torch":
        apply_activation_checkpointing(model, check_fn=lambda layer: type(layer).__name__ == "LlamaDecoderLayer")
    return model.train()


def batch_of(rows, tokens):
    ids = torch.randint(5, WORDS, (rows, tokens), generator=torch.Generator().manual_seed(rows))
    labels = torch.where(torch.arange(tokens) < tokens // 4, -100, ids)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def peak(model, work):
    gc.collect()
    alive = Alive([*model.parameters(), *model.buffers()])
    with alive:
        work()
    return alive.peak


def train(model, batch):
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = inner.base_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)[0]
    hidden.backward(torch.ones_like(hidden))
    model.zero_grad()


def peaks(model, precision=contextlib.nullcontext):
    """Of a step, a step of one row, an update of as many rows, and one row by plain autograd."""
    batch, one = batch_of(ROWS, TOKENS), batch_of(1, TOKENS)
    with precision():
        facts = settle(model, batch_of(3, 40))
        assert facts.batched
        works = (
            lambda: train(model, batch),
            lambda: train(model, one),
            lambda: gradient_norms_and_losses(model, batch, facts=facts),
            lambda: looped_gradient_norms(model, one),
        )
        return [peak(model, work) for work in works]


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("kind", "checkpointing", "precision"),
    [
        ("full", None, "fp32"), ("full", None, "autocast"), ("full", "torch", "fp32"),
        ("full", "transformers", "fp32"), ("full", "transformers", "bf16"), ("full", "transformers", "autocast"),
        ("lora", None, "bf16"), ("lora", "transformers", "fp32"), ("lora", "torch", "autocast"),
        ("qlora", None, "bf16"), ("qlora", "transformers", "bf16"),
    ],
)  # fmt: skip
def test_an_update_needs_no_more_than_the_step_that_it_interrupts(kind, checkpointing, precision):
    model = model_of(kind, checkpointing, torch.bfloat16 if precision == "bf16" else torch.float32)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast")
    step, step_of_one, update, row = peaks(model, lambda: autocast)
    assert update <= MORE * max(step, step_of_one)
    assert row <= MORE * max(step, step_of_one)


def test_a_tied_embedding_costs_little():
    step, step_of_one, update, _ = peaks(model_of("full", "transformers", torch.bfloat16, tied=True))
    assert update <= MORE * max(step, step_of_one)


@pytest.mark.parametrize("checkpointing", [None, "transformers"])
def test_no_gradients_of_more_than_some_layers_are_there_at_once(checkpointing):
    model = model_of("full", checkpointing, torch.float32, layers=16)
    whole = sum(parameter.nbytes for parameter in model.parameters())
    few = batch_of(3, 4)
    for work in (lambda: looped_gradient_norms(model, few), lambda: settle(model, few)):
        assert peak(model, work) < whole / 2


def test_a_long_row_has_not_all_its_logits_at_once_though_the_head_is_trained(monkeypatch):
    monkeypatch.setattr(head, "_CPU_SLICE", 2**14)
    model, one = model_of("full", None, torch.float32, layers=1), batch_of(1, TOKENS)
    facts = settle(model, batch_of(3, 40))
    model.requires_grad_(False)
    model.lm_head.requires_grad_(True)
    found = []
    most = peak(model, lambda: found.append(gradient_norms_and_losses(model, one, facts=facts)[0]))
    assert most < 4 * TOKENS * WORDS + model.lm_head.weight.nbytes
    torch.testing.assert_close(found[0], looped_gradient_norms(model, one), rtol=1e-4, atol=0)


@pytest.mark.filterwarnings("ignore::UserWarning")  # the profiler's own
def test_the_count_is_that_of_torchs_allocator():
    model, batch = model_of("full", None, torch.float32, layers=2), batch_of(ROWS, TOKENS)
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        train(model, batch)
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    assert peak(model, lambda: train(model, batch)) == pytest.approx(most, rel=0.01)
