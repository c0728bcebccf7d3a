"""What the memory estimate adds up."""

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hbo.check.memory import estimate, memory_notes
from hbo.check.weightless import Alive
from hbo.config.file import parse
from hbo.rewards.gradients import gradient_norms_and_losses, settle
from hbo.run.arguments import CHECKPOINTING, training_arguments

LENGTH = 64


def llama(layers=6):
    return LlamaConfig(
        vocab_size=128, hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
        tie_word_embeddings=False,
    )  # fmt: skip


def estimated(model=None, **sections):
    train = {"bf16": False, CHECKPOINTING: False, **sections.pop("train", {})}
    sections = {"balance": {"method": "uniform"}, **sections}  # without updates, whose activations may be the most
    run = parse({"model": "m", "output": "o", "mixture": {"datasets": {"a": "a.jsonl"}}, "train": train, **sections})
    return estimate(run, training_arguments(run), model or llama(), LENGTH)


def test_weights_gradients_and_states_are_those_of_the_parameters():
    numbers = sum(each.numel() for each in LlamaForCausalLM(llama()).parameters())
    found = estimated()
    assert (found.weights, found.gradients, found.optimizer) == (4 * numbers, 4 * numbers, 8 * numbers)
    assert estimated(train={"optim": "sgd"}).optimizer == 0
    assert estimated(train={"optim": "adamw_bnb_8bit"}).optimizer == 2 * numbers
    assert estimated(train={"optim": "adafactor"}).optimizer < numbers
    half = estimated(train={"model_init_kwargs": {"dtype": "bfloat16"}})
    assert (half.weights, half.optimizer) == (2 * numbers, 4 * numbers)


def test_what_saves_memory_is_seen_to():
    whole = estimated(llama(16))
    assert estimated(llama(16), train={CHECKPOINTING: True}).activations < 0.8 * whole.activations
    lora = estimated(llama(16), lora={"r": 2, "target_modules": "all-linear"})
    assert lora.optimizer < 0.3 * whole.optimizer
    assert lora.weights > whole.weights
    two = estimated(llama(16), train={"per_device_train_batch_size": 32})
    assert 3 < two.activations / whole.activations <= 4
    assert estimated(llama(16)).activations > 1.5 * estimated(llama(8)).activations


def test_an_update_counts_only_where_it_is_asked_for_more_than_a_step():
    one = {"per_device_train_batch_size": 1}
    step, updated = estimated(train=one), estimated(train=one, balance={})
    assert updated == step == estimated(train=one, balance={"probe_tokens": LENGTH})
    asked = estimated(train=one, balance={"probe_tokens": 16 * LENGTH})
    assert 8 * step.activations < asked.activations <= 16 * step.activations
    assert estimated(train=one, balance={"rewards": "stream", "probe_tokens": 16 * LENGTH}) == step


def test_probes_are_computed_twice_where_training_is():
    deep, balance = llama(16), {"probe_tokens": 64 * LENGTH}
    one = {"per_device_train_batch_size": 1}
    whole = estimated(deep, train=one, balance=balance)
    assert estimated(deep, train={**one, CHECKPOINTING: True}, balance=balance).activations < 0.8 * whole.activations


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_update_keeps_what_the_estimate_says(checkpointing):
    asked = estimated(train={"per_device_train_batch_size": 1, CHECKPOINTING: checkpointing},
                      balance={"probe_tokens": 16 * LENGTH})  # fmt: skip
    model = LlamaForCausalLM(llama()).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    ids = torch.randint(0, 128, (16, LENGTH))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    facts = settle(model, batch)
    alive = Alive([*model.parameters(), *model.buffers()])
    with alive:
        gradient_norms_and_losses(model, batch, facts=facts)
    assert 0.6 < alive.peak / asked.activations < 1.1  # the logits are counted on top, whenever they are there


def test_fsdp_shares_all_but_activations_and_ddp_nothing():
    alone = estimated()
    sharded, doubled = alone.on(4, sharded=True), alone.on(4, sharded=False)
    assert sharded.optimizer == alone.optimizer / 4
    assert sharded.activations == doubled.activations == alone.activations
    assert doubled.total == alone.total + alone.gradients
    assert alone.on(1, sharded=True) == alone


@pytest.mark.parametrize(("stage", "shared"), [(0, ()), (1, ("optimizer",)), (2, ("optimizer", "gradients"))])
def test_zero_shares_by_its_stage(stage, shared):
    alone = estimated()
    found = alone.under_zero(stage, 4)
    for part in ("weights", "gradients", "optimizer", "activations"):
        assert getattr(found, part) == getattr(alone, part) / (4 if part in shared else 1)
    whole = alone.under_zero(3, 4)
    assert whole.weights == alone.weights / 4 + alone.block
    assert alone.under_zero(3, 1) == alone


def test_zero_in_half_precision_keeps_a_copy_in_fp32():
    fp32, bf16 = estimated(), estimated(train={"model_init_kwargs": {"dtype": "bfloat16"}})
    found = fp32.under_zero(1, 1, narrowed=4)
    assert (found.weights, found.gradients) == (fp32.weights / 2, fp32.gradients / 2)
    assert found.optimizer == fp32.optimizer + fp32.weights
    again = bf16.under_zero(1, 1, narrowed=2)
    assert (again.weights, again.gradients, again.optimizer) == (found.weights, found.gradients, found.optimizer)


@pytest.mark.parametrize(("zero", "stage"), [({"stage": 3}, 3), ({}, 2)])
def test_the_estimate_knows_deepspeed(model_folder, zero, stage):
    run = parse({"model": str(model_folder), "output": "o", "mixture": {"datasets": {"a": "a.jsonl"}}})
    args = training_arguments(run)
    args.deepspeed_plugin = SimpleNamespace(zero_stage=2, deepspeed_config={"zero_optimization": zero})
    args.__dict__["distributed_state"] = SimpleNamespace(num_processes=4, process_index=0)
    line, *more = memory_notes(run, args, str(model_folder), 64)
    assert f"on each of 4 processes, DeepSpeed's ZeRO-{stage}, an estimate: " in line
    assert more == []


def test_a_model_that_is_not_here_has_no_estimate_without_a_network():
    run = parse({"model": "owner/model", "output": "o", "mixture": {"datasets": {"a": "a.jsonl"}}})
    (line,) = memory_notes(run, training_arguments(run), None, 64)
    assert "can't be estimated" in line and "isn't on this machine" in line


def test_check_and_a_dry_run_print_it(hbo, config):
    for words in (("check",), ("train", "--dry-run")):
        done = hbo(words[0], config(), *words[1:])
        assert done.returncode == 0, done.stderr
        assert "at the peak, an estimate: " in done.stdout
        assert "one pass over the whole mixture takes " in done.stdout
