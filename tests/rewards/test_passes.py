"""How many tokens of probes are measured at once, decided from a CUDA allocator's own numbers, which are given here."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.utils.memory import should_reduce_batch_size
from tiny_models import tiny

from hbo.errors import RewardError
from hbo.rewards.passes import Passes, Sizing
from hbo.scoring.processes import ALONE, Processes
from hbo.scoring.room import MOST_TOKENS, TOKEN_BUDGET, Room, never_for_training

MIB = 2**20
GPU = torch.device("cuda")


@pytest.fixture
def cuda(monkeypatch):
    """An allocator: bytes that are held, the most since the last reset, and those of the device."""
    now = SimpleNamespace(held=0, peak=0, whole=80 * 1024 * MIB)

    def reset(device=None):
        now.peak = now.held

    numbers = {
        "memory_allocated": lambda device=None: now.held,
        "memory_reserved": lambda device=None: now.held,
        "max_memory_allocated": lambda device=None: now.peak,
        "mem_get_info": lambda device=None: (now.whole - now.held, now.whole),
        "reset_peak_memory_stats": reset,
        "is_initialized": lambda: True,
    }
    for name, number in numbers.items():
        monkeypatch.setattr(torch.cuda, name, number)
    return now


def settled(cuda, *, weights=1000 * MIB, row=1024, per_token=MIB // 2):
    """As after the start of training: the longest row was measured."""
    sizing = Sizing()
    sizing.longest, sizing.of_training = row, 4 * row
    cuda.held = weights
    with sizing.watching(GPU):
        assert sizing.room.tokens == row
        cuda.peak = cuda.held + row * per_token
    assert sizing.room.tokens is None
    return sizing


def trains(cuda, *, states=2000 * MIB, activations):
    cuda.held += states
    cuda.peak = cuda.held + activations


def test_probes_take_no_more_than_the_training_step(cuda):
    sizing = settled(cuda)
    trains(cuda, activations=6000 * MIB)
    sizing.decide(GPU, ALONE)
    assert sizing.room.tokens == 8192  # the power of two below 12,000
    trains(cuda, activations=60000 * MIB)
    sizing.decide(GPU, ALONE)
    assert sizing.room.tokens == 8192  # once


def test_a_sixteenth_of_the_device_is_little_enough_to_take(cuda):
    sizing = settled(cuda, weights=100 * MIB, row=256)
    trains(cuda, states=200 * MIB, activations=400 * MIB)
    sizing.decide(GPU, ALONE)
    assert sizing.room.tokens == 8192  # 5120 MiB, of which 300 are held, not 700
    larger = settled(cuda, weights=5000 * MIB, row=256)
    trains(cuda, states=0, activations=400 * MIB)
    larger.decide(GPU, ALONE)
    assert larger.room.tokens == 512  # 800, by the peak of training


def test_the_peak_of_loading_and_of_the_start_is_none_of_training(cuda):
    cuda.peak = 70000 * MIB
    sizing = settled(cuda)
    cuda.held += 6000 * MIB
    cuda.peak = max(cuda.peak, cuda.held + 600 * MIB)
    sizing.decide(GPU, ALONE)
    assert sizing.room.tokens == 1024
    again = Sizing()
    cuda.peak = 70000 * MIB  # a run that goes on has loaded its checkpoint
    again.load({"tokens": None, "longest": 1024, "bytes_per_token": MIB / 2})
    assert cuda.peak == cuda.held


def test_the_longest_row_is_measured_however_little_training_takes(cuda):
    sizing = settled(cuda, row=4096)
    trains(cuda, activations=100 * MIB)
    sizing.decide(GPU, ALONE)
    assert sizing.room.tokens == 4096


def test_what_others_hold_on_the_device_isnt_free(cuda):
    sizing = settled(cuda)
    trains(cuda, activations=6000 * MIB)
    cuda.whole = cuda.held + 2000 * MIB
    sizing.decide(GPU, ALONE)
    assert sizing.room.tokens == 2048  # of 3,200, four fifths of what is free


def test_more_tokens_than_make_a_batch_faster_are_never_taken(cuda):
    sizing = settled(cuda, per_token=1024)
    trains(cuda, activations=60000 * MIB)
    sizing.decide(GPU, ALONE)
    assert sizing.room.tokens == MOST_TOKENS


def test_processes_take_what_the_poorest_of_them_can(cuda):
    poorer = Processes(0, 2, lambda array: array + np.array([0, 1500.0]) if array.shape == (2,) else array)
    sizing = settled(cuda)
    trains(cuda, activations=6000 * MIB)
    sizing.decide(GPU, poorer)
    assert sizing.room.tokens == 1500


def test_the_decision_stands_in_the_checkpoint(cuda):
    sizing = settled(cuda)
    trains(cuda, activations=6000 * MIB)
    sizing.decide(GPU, ALONE)
    again = Sizing()
    again.load(json.loads(json.dumps(sizing.to_json())))
    trains(cuda, activations=60000 * MIB)
    again.decide(GPU, ALONE)
    assert again.room.tokens == sizing.room.tokens == 8192


@pytest.mark.parametrize(("of_training", "tokens"), [(300, 300), (5000, 1024), (None, 1024)])
def test_on_a_cpu_a_batch_is_no_larger_than_one_of_training(of_training, tokens):
    sizing = Sizing()
    sizing.of_training = of_training
    sizing.decide(torch.device("cpu"), ALONE)
    assert sizing.room.tokens == tokens


@pytest.mark.parametrize(
    ("gib", "hidden", "tokens"), [(70, 2048, MOST_TOKENS), (60, 4096, 32768), (10, 4096, 8192), (1, 8192, TOKEN_BUDGET)]
)
def test_batches_without_gradients_are_as_large_as_free_memory_allows(cuda, gib, hidden, tokens):
    cuda.whole = gib * 1024 * MIB
    text = SimpleNamespace(hidden_size=hidden, intermediate_size=int(3.5 * hidden))
    weight = SimpleNamespace(device=GPU, is_meta=False)
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text), parameters=lambda: iter([weight]))
    assert Room.of(model).tokens == tokens
    assert Room.of(model, 77).tokens == 77


FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.1 GiB"


def test_a_probe_never_makes_the_batches_of_training_smaller():
    """Where `auto_find_batch_size` asks whether an error is one of memory."""

    def lacks(rows):
        raise torch.OutOfMemoryError(FULL)

    for room in (Room(8), Room(8, lockstep=True)):
        rows = np.arange(4 if room.lockstep else 1)
        with pytest.raises(RewardError, match=r"too little memory to measure .*\(max_length\)") as caught:
            list(room.tried(rows, lacks))
        assert not should_reduce_batch_size(caught.value)
    for error in (torch.OutOfMemoryError(FULL), MemoryError()):
        with pytest.raises(RewardError, match="too little memory to measure rewards") as caught, never_for_training():
            raise error
        assert not should_reduce_batch_size(caught.value)
    with pytest.raises(ZeroDivisionError), never_for_training():
        raise ZeroDivisionError


@pytest.mark.parametrize("whole", [True, False])
def test_processes_that_hold_parts_of_a_model_give_up_together_also_in_a_resumed_run(monkeypatch, whole):
    monkeypatch.setattr("hbo.rewards.passes.is_whole", lambda model: whole)
    rows, sizes = [{"input_ids": [1, 2], "labels": [1, 2]}] * 4, []

    def lacks_for_four(index_B, batch):
        sizes.append(len(index_B))
        if len(index_B) > 2:
            raise torch.OutOfMemoryError(FULL)
        return np.ones((1, len(index_B)))

    passes = Passes(rows, 0, Room(8), Processes(0, 2))  # nothing was settled, as after a resume
    if whole:
        assert passes.over(tiny(), np.arange(4), lacks_for_four, 1).sum() == 4
        assert sizes == [4, 2, 2]
    else:
        with pytest.raises(RewardError, match="too little memory"):
            passes.over(tiny(), np.arange(4), lacks_for_four, 1)
        assert sizes == [4]
