"""Batches that are too large are halved; an error says what to do."""

import numpy as np
import pytest
import torch
from accelerate.utils.memory import should_reduce_batch_size

from hbo.errors import RewardError
from hbo.scoring.room import CPU_TOKENS, Room, free_bytes, lacks_memory


def fitting(most):
    def measure(rows):
        if len(rows) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")
        return rows * 10

    return measure


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_rows_come_in_order_and_once_however_few_fit(most):
    room = Room(4096)
    parts = list(room.tried(np.arange(7), fitting(most)))
    assert np.concatenate([rows for rows, _ in parts]).tolist() == list(range(7))
    assert all(value.tolist() == (rows * 10).tolist() and len(rows) <= most for rows, value in parts)
    assert room.tokens == 4096 if most == 7 else room.tokens < 4096


def test_a_row_that_does_not_fit_alone_is_an_error_that_no_trainer_takes_for_its_own():
    with pytest.raises(RewardError, match="too little memory to measure one row at a time.*max_length") as caught:
        list(Room(64).tried(np.arange(3), fitting(0)))
    assert not should_reduce_batch_size(caught.value) and not lacks_memory(caught.value)


def test_processes_that_run_together_do_not_try_again_alone():
    room = Room(64, lockstep=True)
    with pytest.raises(RewardError, match="3 rows"):
        list(room.tried(np.arange(3), fitting(2)))
    assert room.tokens == 64


def test_other_errors_are_not_caught():
    def broken(rows):
        raise KeyError("of the model")

    with pytest.raises(KeyError):
        list(Room(64).tried(np.arange(3), broken))


def test_a_cpu_has_a_room_of_its_own_unless_one_is_asked_for():
    layer = torch.nn.Linear(2, 2)
    assert free_bytes(torch.device("cpu")) is None
    assert Room.of(layer).tokens == CPU_TOKENS and Room.of(layer, 77).tokens == 77
    assert Room.of(layer, 77).to_json() == 77
