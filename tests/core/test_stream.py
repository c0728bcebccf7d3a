import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbo.core.groups import Groups
from hbo.core.ledger import Entry, Ledger
from hbo.core.stream import Stream, _permuted

GROUPS = Groups.from_columns(["a"] * 13 + ["b"] * 7, [i % 2 for i in range(20)])


def entry(step, start, p, q=((0.5, 0.5), (0.5, 0.5))):
    return Entry(step, start, np.array(p), np.array(q))


ENTRIES = entry(0, 0, [0.5, 0.5]), entry(1, 37, [0.9, 0.1]), entry(2, 90, [0.2, 0.8])


def stream(seed=0, entries=ENTRIES):
    return Stream(GROUPS, Ledger(["a", "b"], entries), seed)


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 150), max_size=6), seed=st.integers(0, 2**32 - 1))
def test_rows_depend_on_their_position_alone(cuts, seed):
    whole = stream(seed).rows(0, 150)
    one = stream(seed)
    for start, stop in itertools.pairwise(cuts):  # in any order, forwards and backwards
        if start < stop:
            assert (one.rows(start, stop) == whole[start:stop]).all()
            assert (one.counts(start, stop) == stream(seed).counts(start, stop)).all()


def test_seeds_give_different_streams():
    assert (stream(0).rows(0, 100) != stream(1).rows(0, 100)).any()


def test_an_entry_holds_from_its_start_and_changes_nothing_before():
    before = stream(entries=[entry(0, 0, [0.5, 0.5])]).rows(0, 120)
    after = stream(entries=[entry(0, 0, [0.5, 0.5]), entry(1, 60, [1.0, 0.0])]).rows(0, 120)
    assert (before[:60] == after[:60]).all()
    assert (after[60:] < 13).all()
    assert (before[60:] >= 13).any()


def test_a_ledger_that_grows_is_seen():
    ledger = Ledger(["a", "b"], [entry(0, 0, [1.0, 0.0])])
    growing = Stream(GROUPS, ledger, 0)
    growing.rows(0, 40)
    ledger.append(entry(1, 40, [0.0, 1.0]))
    assert (growing.rows(40, 80) >= 13).all()


def test_inside_a_group_no_row_comes_twice_before_all_came_once():
    rows = stream().rows(0, 150)
    for k in range(2):
        for j in range(2):
            members = GROUPS.rows(k, j)
            drawn = [row for row in rows.tolist() if row in members]
            passes = [drawn[i : i + len(members)] for i in range(0, len(drawn), len(members))]
            assert all(len(set(turn)) == len(turn) for turn in passes)
    orders = [tuple(drawn[i : i + len(members)]) for i in range(0, len(drawn) - len(members), len(members))]
    assert len(set(orders)) > 1


def test_counts_are_those_of_the_rows():
    one = stream()
    rows = one.rows(20, 130)
    expected = [[np.isin(rows, GROUPS.rows(k, j)).sum() for j in range(2)] for k in range(2)]
    assert stream().counts(20, 130).tolist() == expected


def test_shares_are_those_asked_for():
    groups = Groups.from_columns(["a"] * 50 + ["b"] * 50, [i % 2 for i in range(100)])
    q = np.array([[0.3, 0.7], [0.9, 0.1]])
    ledger = Ledger(["a", "b"], [Entry(0, 0, np.array([0.8, 0.2]), q)])
    counts = Stream(groups, ledger, 3).counts(0, 100_000) / 100_000
    assert counts == pytest.approx(np.array([0.8, 0.2])[:, None] * q, abs=0.006)


def test_what_has_no_probability_or_no_row_is_never_drawn():
    groups = Groups.from_columns(["a"] * 4 + ["b"] * 4 + ["c"] * 4, [0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1])
    q = np.array([[0.1, 0.9], [0.5, 0.5], [1.0, 0.0]])
    ledger = Ledger(["a", "b", "c"], [Entry(0, 0, np.array([0.5, 0.0, 0.5]), q)])
    counts = Stream(groups, ledger, 0).counts(0, 5000)
    assert counts[0, 1] == counts[1].sum() == counts[2, 1] == 0
    assert counts[0, 0] > 2000


def test_a_restored_stream_goes_on_without_counting_from_the_beginning(monkeypatch):
    first = stream()
    state = first.state_dict(100)
    second = stream()
    second.load_state_dict(state)
    expected = stream().rows(0, 150)[100:]
    asked = []
    cells = Stream._cells
    monkeypatch.setattr(Stream, "_cells", lambda self, a, b: asked.append(a) or cells(self, a, b))
    assert (second.rows(100, 150) == expected).all()
    assert min(asked) >= 100


@settings(deadline=None)
@given(size=st.integers(1, 700), seed=st.integers(0, 2**32), turn=st.integers(0, 5))
def test_a_shuffle_is_a_bijection_of_any_size(size, seed, turn):
    full = np.full(size, size)
    places = _permuted(seed, np.zeros(size, dtype=int), np.full(size, turn), np.arange(size), full)
    assert sorted(places.tolist()) == list(range(size))
