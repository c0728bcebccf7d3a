import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from hbo.core.groups import Groups
from hbo.core.ledger import Entry, Ledger
from hbo.core.stream import Stream
from hbo.training.sampler import HBOSampler, Schedule


def stream(seed=0):
    groups = Groups.from_columns(["a"] * 20 + ["b"] * 11, [0] * 31, length_N=np.arange(31)[::-1])
    return Stream(groups, Ledger(["a", "b"], [Entry(0, 0, np.array([0.5, 0.5]), np.ones((2, 1)))]), seed)


@given(rows=st.integers(1, 9), steps=st.integers(1, 6), last=st.integers(1, 9), step=st.integers(0, 40))
def test_positions_follow_each_other_without_a_gap(rows, steps, last, step):
    schedule = Schedule(rows, steps, min(last, rows))
    width = schedule.position(step + 1) - schedule.position(step)
    assert width == (schedule.last_rows if (step + 1) % steps == 0 else rows)


def test_an_epoch_is_the_stream_step_by_step_shortest_first():
    sampler = HBOSampler(stream(), batch=8)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 32
    expected = stream().rows(0, 32)
    lengths = stream().groups.length_N
    for at in range(0, 32, 8):
        assert sorted(drawn[at : at + 8]) == sorted(expected[at : at + 8].tolist())
        assert (np.diff(lengths[drawn[at : at + 8]]) >= 0).all()


def test_the_second_iteration_goes_on_where_the_first_ended():
    sampler = HBOSampler(stream(), batch=8)
    list(sampler)
    assert sorted(sampler) == sorted(stream().rows(32, 64).tolist())


def test_skipped_steps_are_placeholders_and_the_rest_is_exact():
    whole = list(HBOSampler(stream(), batch=8))
    sampler = HBOSampler(stream(), batch=8)
    sampler.seek(0, skip=2)
    assert list(sampler)[16:] == whole[16:]
    assert sampler.step == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_loader_of_torch_takes_it(workers):
    loader = DataLoader(list(range(31)), batch_size=8, sampler=HBOSampler(stream(), batch=8), num_workers=workers)
    assert [row for batch in loader for row in batch.tolist()] == list(HBOSampler(stream(), batch=8))


def test_rows_already_drawn_are_consumed_and_not_drawn_again(monkeypatch):
    sampler = HBOSampler(stream(), batch=8)
    rows = list(sampler)
    monkeypatch.setattr(Stream, "rows", lambda *_: pytest.fail("drawn twice"))
    assert sampler.consume(1).tolist() == rows[8:16]
