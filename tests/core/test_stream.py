"""Draws are a pure function of (seed, position, ledger), and shared out as the probabilities say."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hbo.core.groups import Groups
from hbo.core.ledger import Entry, Ledger
from hbo.core.stream import Stream
from hbo.errors import ConfigError

# 2 datasets × 3 levels: 30 rows.
SIZES = [[7, 5, 1], [4, 8, 5]]
P = [[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]
Q = [[[0.4, 0.4, 0.2], [0.2, 0.3, 0.5]], [[0.1, 0.1, 0.8], [1, 0, 0]], [[0.3, 0.3, 0.4], [0, 0.5, 0.5]]]
STARTS = [0, 37, 80]
END = 150


def make_groups(sizes=SIZES):
    cells = [(str(k), level) for k, row in enumerate(sizes) for level, size in enumerate(row) for _ in range(size)]
    # Rows of the groups interleaved, so that a row number is not a place in its group.
    order = np.random.default_rng(0).permutation(len(cells))
    return Groups.from_columns(
        [cells[i][0] for i in order],
        [cells[i][1] for i in order],
        datasets=[str(k) for k in range(len(sizes))],
        levels=len(sizes[0]),
    )


def make_ledger(count=3):
    entries = [Entry(i, STARTS[i], np.array(P[i]), np.array(Q[i], dtype=float)) for i in range(count)]
    return Ledger(["0", "1"], entries)


def fixed(sizes, p, q, seed=0):
    """A stream whose probabilities never change."""
    names = [str(k) for k in range(len(p))]
    return Stream(make_groups(sizes), Ledger(names, [Entry(0, 0, np.array(p), np.array(q, dtype=float))]), seed)


def new(seed=0, count=3):
    return Stream(make_groups(), make_ledger(count), seed)


WHOLE = new().rows(0, END).tolist()


def cell_of(groups):
    cell_N = np.empty(len(groups.order_N), dtype=np.int64)
    cell_N[groups.order_N] = np.repeat(np.arange(len(groups.offsets) - 1), np.diff(groups.offsets))
    return cell_N


@settings(deadline=None)
@given(st.sets(st.integers(0, END)), st.integers(0, 2**32 - 1))
def test_any_cut_gives_the_same_rows(cuts, seed):
    stream = new(seed)
    edges = [0, *sorted(cuts), END]
    rows = [row for a, b in itertools.pairwise(edges) for row in stream.rows(a, b)]
    assert rows == new(seed).rows(0, END).tolist()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, END), st.integers(0, END), st.sampled_from(["rows", "counts", "state"]))))
def test_any_order_of_calls_gives_the_same_rows(calls):
    stream = new()
    cell_N = cell_of(stream.groups)
    for a, b, kind in calls:
        start, stop = sorted((a, b))
        if kind == "rows":
            assert stream.rows(start, stop).tolist() == WHOLE[start:stop]
        elif kind == "counts":
            counts = stream.counts(start, stop)
            assert counts.ravel().tolist() == np.bincount(cell_N[WHOLE[start:stop]], minlength=6).tolist()
        else:
            assert stream.state_dict(start)["position"] == start


@given(st.integers(0, END), st.integers(0, END))
def test_a_new_object_starts_anywhere(start, stop):
    assert new().rows(start, stop).tolist() == WHOLE[start:stop]


def test_the_cut_into_chunks_for_memory_changes_nothing(monkeypatch):
    monkeypatch.setattr("hbo.core.stream._CHUNK", 7)
    assert new().rows(0, END).tolist() == WHOLE
    assert new().rows(61, END).tolist() == WHOLE[61:]


def test_an_empty_range_has_no_rows():
    assert new().rows(5, 5).tolist() == []


def test_the_seed_decides_the_rows():
    assert new(seed=1).rows(0, END).tolist() != WHOLE
    assert new(seed=2**32 - 1).rows(0, END).tolist() == new(seed=2**32 - 1).rows(0, END).tolist()


def test_the_rows_of_a_seed_do_not_change_between_releases():
    # A checkpoint of an older release must go on with the same rows.
    assert WHOLE[:8] == [17, 28, 21, 17, 18, 12, 13, 20]


def test_groups_run_out_before_a_row_comes_again_and_every_pass_has_its_own_order():
    stream = fixed([[6, 9]], [1.0], [[0.5, 0.5]])
    rows = stream.rows(0, 600)
    for level in (0, 1):
        mine = stream.groups.rows(0, level)
        drawn = rows[np.isin(rows, mine)]
        passes = [drawn[i : i + len(mine)].tolist() for i in range(0, len(drawn) - len(mine), len(mine))]
        assert len(passes) > 20
        assert all(sorted(one) == mine.tolist() for one in passes)
        assert len({tuple(one) for one in passes}) > 0.9 * len(passes)
        assert passes[0] != mine.tolist() or passes[1] != mine.tolist()


def test_passes_go_on_over_a_change_of_probabilities():
    stream = new()
    rows = stream.rows(0, 4000)
    for cell, size in enumerate(np.ravel(SIZES)):
        drawn = rows[cell_of(stream.groups)[rows] == cell]
        for i in range(0, len(drawn) - size + 1, size):
            assert len(set(drawn[i : i + size])) == size


@pytest.mark.parametrize("size", [3, 4, 5, 7, 9, 13, 16, 64])
def test_every_place_of_a_pass_is_as_likely_for_every_row(size):
    turns = size * max(30, 12000 // size**2)
    passes = fixed([[size]], [1.0], [[1.0]]).rows(0, size * turns).reshape(turns, size)
    seen = np.stack([np.bincount(passes[:, place], minlength=size) for place in range(size)])
    # χ² with (size − 1)² degrees of freedom; its standard deviation is √2 (size − 1).
    expected = turns / size
    assert ((seen - expected) ** 2 / expected).sum() < (size - 1) ** 2 + 5 * 2**0.5 * (size - 1)


def test_groups_of_equal_size_do_not_share_an_order():
    stream = fixed([[40], [40]], [0.5, 0.5], [[1.0], [1.0]])
    rows = stream.rows(0, 60)
    place = [
        np.searchsorted(mine, rows[np.isin(rows, mine)])[:20]
        for mine in (stream.groups.rows(0, 0), stream.groups.rows(1, 0))
    ]
    assert (place[0] != place[1]).any()


def test_new_probabilities_hold_exactly_from_their_start():
    q = np.ones((2, 1))
    entries = [
        Entry(0, 0, np.array([1.0, 0.0]), q),
        Entry(1, 41, np.array([0.0, 1.0]), q),
        Entry(2, 90, np.array([1.0, 0]), q),
    ]
    stream = Stream(make_groups([[9], [9]]), Ledger(["0", "1"], entries))
    drawn = cell_of(stream.groups)[stream.rows(0, 120)]
    assert drawn.tolist() == [0] * 41 + [1] * 49 + [0] * 30


def test_an_entry_leaves_the_rows_before_its_start_alone():
    assert new(count=1).rows(0, END).tolist()[: STARTS[1]] == WHOLE[: STARTS[1]]
    assert new(count=2).rows(0, END).tolist()[: STARTS[2]] == WHOLE[: STARTS[2]]
    assert new(count=1).rows(STARTS[1], END).tolist() != WHOLE[STARTS[1] :]


@given(st.integers(0, END), st.integers(0, END), st.sampled_from(["rows", "counts"]))
def test_rows_read_ahead_of_an_entry_do_not_change_what_follows_it(ahead, again, how):
    # A loader prefetches beyond the start of an entry that is then appended: what was read ahead was another ledger's.
    ledger = make_ledger(1)
    stream = Stream(make_groups(), ledger)
    for i in (1, 2):
        getattr(stream, how)(0, ahead)
        ledger.append(make_ledger()[i])
    assert stream.rows(again, END).tolist() == WHOLE[again:]
    assert stream.rows(0, END).tolist() == WHOLE


@settings(max_examples=30)
@given(st.integers(0, END - 1))
def test_state_at_a_position_goes_on_identically_without_reading_the_past(position):
    state = json.loads(json.dumps(new().state_dict(position)))
    resumed = new()
    resumed.load_state_dict(state)
    read = []
    cells = resumed._cells
    resumed._cells = lambda start, stop, is_open: read.append(start) or cells(start, stop, is_open)
    assert resumed.rows(position, END).tolist() == WHOLE[position:]
    assert resumed.rows(position, END).tolist() == WHOLE[position:]  # once more, after the stream has moved on
    assert min(read) >= position


def test_a_resumed_stream_counts_the_past_it_has_not_seen():
    resumed = new()
    resumed.load_state_dict(new().state_dict(70))
    assert resumed.counts(0, 100).tolist() == new().counts(0, 100).tolist()


def test_groups_without_rows_and_choices_without_probability_are_never_drawn():
    sizes = [[0, 4, 3], [5, 5, 5], [0, 0, 0], [2, 2, 2], [0, 3, 0]]
    q = [[0.8, 0.1, 0.1], [0.0, 0.5, 0.5], [1, 1, 1], [1, 1, 1], [1.0, 0.0, 0.0]]
    stream = fixed(sizes, [0.3, 0.4, 0.2, 0.0, 0.1], q)
    counts = stream.counts(0, 3000)
    drawable = [[0, 1, 1], [0, 1, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert (counts > 0).astype(int).tolist() == drawable
    assert len(stream.rows(0, 3000)) == 3000


def test_an_empty_groups_share_goes_to_the_others_of_its_dataset():
    counts = fixed([[0, 4, 4], [4, 4, 4]], [0.5, 0.5], [[0.6, 0.3, 0.1], [1 / 3] * 3]).counts(0, 20_000)
    share = counts / counts.sum()
    assert share[0] == pytest.approx([0, 0.375, 0.125], abs=0.015)


@pytest.mark.parametrize("seed", [0, 1])
def test_groups_are_drawn_as_often_as_p_times_q_says(seed):
    p, q = np.array([0.7, 0.3]), np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])
    n = 100_000
    expected = n * p[:, None] * q
    counts = fixed([[50, 3, 11], [1, 20, 9]], p, q, seed).counts(0, n)
    # χ², 5 degrees of freedom, 0.9999-quantile 25.7.
    assert ((counts - expected) ** 2 / expected).sum() < 25.7


def test_dataset_and_level_are_drawn_independently_of_what_came_before():
    stream = fixed([[50, 50], [50, 50]], [0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]])
    cells = cell_of(stream.groups)[stream.rows(0, 40_000)]
    pairs = np.bincount(cells[:-1] * 4 + cells[1:], minlength=16)
    expected = 39_999 / 16
    # χ², 15 degrees of freedom, 0.9999-quantile 44.3.
    assert ((pairs - expected) ** 2 / expected).sum() < 50


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=2, max_size=2).filter(
        lambda sizes: all(map(any, sizes))
    ),
    st.floats(0.05, 0.95),
    st.integers(0, 99),
)
def test_packed_rows_are_drawn_so_that_the_probabilities_are_shares_of_examples(sizes, p, seed):
    words = np.random.default_rng(seed)
    whole = make_groups(sizes)
    part_N = words.integers(1, 12, len(whole.order_N))
    cell_N = cell_of(whole)
    names = np.array(whole.datasets)[cell_N // 3]
    packed = Groups.from_columns(names, cell_N % 3, datasets=whole.datasets, levels=3, examples_N=part_N)
    q_KL = words.dirichlet(np.ones(3), 2)
    ledger = Ledger(whole.datasets, [Entry(0, 0, np.array([p, 1 - p]), q_KL)])
    rows = Stream(packed, ledger, seed).rows(0, 40_000)
    share = np.bincount(cell_N[rows], weights=part_N[rows], minlength=6).reshape(2, 3)
    q_KL = np.where(packed.sizes_KL > 0, q_KL, 0)
    wanted = np.array([[p], [1 - p]]) * q_KL / q_KL.sum(axis=1, keepdims=True)
    assert share / share.sum() == pytest.approx(wanted, abs=0.015)


def stratified(p_K, q_KL, sizes, rows=8, per_epoch=None, seed=0):
    names, levels = [], []
    for k, row in enumerate(sizes):
        for j, size in enumerate(row):
            names += ["abcdefgh"[k]] * size
            levels += [j] * size
    groups = Groups.from_columns(names, levels)
    ledger = Ledger(groups.datasets, [Entry(0, 0, np.array(p_K), np.array(q_KL))])
    stream = Stream(groups, ledger, seed, stratified=True)
    stream.steps = rows, per_epoch or 10 * rows
    return stream


@settings(deadline=None)
@given(
    weights=hnp.arrays(np.float64, (3, 2), elements=st.floats(0.01, 1.0)),
    rows=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    last=st.integers(0, 39),
)
def test_every_stratified_step_has_the_exact_shares(weights, rows, seed, last):
    p_K = weights.sum(axis=1) / weights.sum()
    q_KL = weights / weights.sum(axis=1, keepdims=True)
    last = min(last, rows - 1)  # of an epoch's last, shorter step
    stream = stratified(p_K, q_KL, [[5, 5]] * 3, rows, 4 * rows + last, seed)
    position = 0
    for step in range(15):
        size = last if last and step % 5 == 4 else rows
        if not last and step % 5 == 4:
            continue
        count_KL = stream.counts(position, position + size)
        for exact, seen in ((size * p_K, count_KL.sum(axis=1)), (size * p_K[:, None] * q_KL, count_KL)):
            assert (np.floor(exact - 1e-6) <= seen).all()
            assert (seen <= np.ceil(exact + 1e-6)).all()
        position += size


def test_a_rare_source_comes_as_often_as_is_due_and_evenly():
    stream = stratified([0.99, 0.01], [[1.0], [1.0]], [[900], [10]])  # due once in 12.5 steps of 8
    steps = [step for step in range(1000) if stream.counts(8 * step, 8 * step + 8)[1, 0]]
    assert len(steps) == pytest.approx(80, abs=1)
    assert np.diff(steps).max() <= 25


def test_stratified_rows_are_a_function_of_position_and_come_without_replacement():
    stream = stratified([0.5, 0.5], [[1.0], [1.0]], [[12], [12]])
    whole = stream.rows(0, 48)
    assert sorted(whole[:24].tolist()) == list(range(24))
    again = stratified([0.5, 0.5], [[1.0], [1.0]], [[12], [12]])
    assert again.rows(17, 31).tolist() == whole[17:31].tolist()
    other = stratified([0.5, 0.5], [[1.0], [1.0]], [[12], [12]], seed=1)
    assert other.rows(0, 48).tolist() != whole.tolist()


def capped(most, p=(0.9, 0.1), sizes=((4, 4), (6, 6)), seed=0):
    groups = make_groups(sizes)
    ledger = Ledger(groups.datasets, [Entry(0, 0, np.array(p), np.full((len(sizes), len(sizes[0])), 0.5))])
    return Stream(groups, ledger, seed, max_passes=most)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), most=st.integers(1, 3), p=st.floats(0.01, 0.99))
def test_no_row_is_drawn_more_often_than_the_cap_allows(seed, most, p):
    stream = capped(most, (p, 1 - p), seed=seed)
    rows = stream.rows(0, 20 * most)
    assert np.bincount(rows, minlength=20).tolist() == [most] * 20  # all there is, to the last draw
    assert len(stream.rows(20 * most, 20 * most + 5)) == 5  # of which none can be kept


def test_the_share_of_a_full_group_goes_to_its_dataset_first():
    stream = capped(1, (0.5, 0.5), ((1, 500), (250, 250)))
    count_KL = stream.counts(0, 400)
    assert count_KL[0, 0] == 1
    assert count_KL.sum(axis=1)[0] == pytest.approx(200, abs=40)


def test_capped_draws_do_not_depend_on_how_they_are_read():
    whole = capped(2).rows(0, 40)
    parts = capped(2)
    assert np.concatenate([parts.rows(a, b) for a, b in ((0, 7), (7, 8), (8, 40))]).tolist() == whole.tolist()
    assert capped(2).rows(23, 40).tolist() == whole[23:].tolist()
    resumed = capped(2)
    resumed.load_state_dict(json.loads(json.dumps(parts.state_dict(13))))
    assert resumed.rows(13, 40).tolist() == whole[13:].tolist()
    assert capped(2).rows(0, 8).tolist() == capped(None).rows(0, 8).tolist()  # nothing is full yet


def test_the_cap_is_void_where_nothing_else_has_a_share():
    stream = capped(1, (1.0, 0.0))
    assert set(stream.rows(0, 30).tolist()) == set(stream.groups.rows(0, 0)) | set(stream.groups.rows(0, 1))


@pytest.mark.parametrize("most", [0, -1, 1.5, True])
def test_a_cap_that_is_no_count_is_refused(most):
    with pytest.raises(ConfigError, match="max_passes is"):
        capped(most)
