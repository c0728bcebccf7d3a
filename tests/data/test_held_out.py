import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hbo.data.held_out import dataset_names, dataset_sizes, hold_out
from hbo.errors import ConfigError


def mixture(**sizes):
    rows = [(name, row) for name, size in sizes.items() for row in range(size)]
    return Dataset.from_dict({"hbo_dataset": [name for name, _ in rows], "hbo_row": [row for _, row in rows]})


def ids(data):
    return list(zip(data["hbo_dataset"], data["hbo_row"], strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.floats(0, 1, exclude_max=True), st.integers(0, 2**32 - 1))
def test_each_dataset_gives_its_share_and_keeps_a_row(a, b, fraction, seed):
    data = mixture(a=a, b=b)
    train, held_out = hold_out(data, fraction, seed)
    assert sorted(ids(train) + ids(held_out)) == sorted(ids(data))
    assert ids(train) == sorted(ids(train))  # in the order of the data
    for name, size in (("a", a), ("b", b)):
        count = dataset_sizes(held_out).get(name, 0)
        assert count == (min(max(1, round(fraction * size)), size - 1) if fraction else 0)


def test_the_same_rows_for_the_same_seed_whatever_the_other_datasets_are():
    alone = ids(hold_out(mixture(a=50), 0.2, 7)[1])
    among = ids(hold_out(mixture(b=20, a=50, c=3), 0.2, 7)[1])
    assert [row for row in among if row[0] == "a"] == alone
    assert ids(hold_out(mixture(a=50), 0.2, 7)[1]) == alone
    assert ids(hold_out(mixture(a=50), 0.2, 8)[1]) != alone
    assert [row for _, row in ids(hold_out(mixture(b=50), 0.2, 7)[1])] != [row for _, row in alone]


def test_a_row_keeps_its_rank_when_others_are_dropped():
    data = mixture(a=100)
    whole = set(ids(hold_out(data, 0.1, 0)[1]))
    kept = data.select(range(1, 100))
    assert len(whole & set(ids(hold_out(kept, 0.1, 0)[1]))) >= 9


def test_held_out_rows_are_spread_evenly():
    chosen = np.zeros(20)
    for seed in range(400):
        chosen[[row for _, row in ids(hold_out(mixture(a=20), 0.25, seed)[1])]] += 1
    assert chosen.sum() == 400 * 5
    assert np.abs(chosen - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)


def test_the_only_row_of_a_dataset_is_trained_on_and_not_held_out():
    with pytest.warns(UserWarning, match="dataset 'b': its only row is trained on, so none is held out"):
        train, held_out = hold_out(mixture(a=5, b=1), 0.1, 0)
    assert ("b", 0) in ids(train) and [name for name, _ in ids(held_out)] == ["a"]
    assert len(hold_out(mixture(a=5, b=1), 0, 0)[0]) == 6


@pytest.mark.parametrize("fraction", [-0.1, 1, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ConfigError, match=r"eval_fraction is .* at least 0 and below 1"):
        hold_out(mixture(a=5), fraction, 0)


def test_names_and_sizes_come_in_order_of_first_appearance():
    data = mixture(z=2, a=3)
    assert dataset_names(data) == ["z", "a"]
    assert dataset_sizes(data.select([4, 0, 3])) == {"a": 2, "z": 1}


def test_of_many_datasets_of_a_single_row_a_few_are_named():
    with pytest.warns(UserWarning) as told:
        hold_out(mixture(**{f"d{i}": 1 for i in range(200)}), 0.1, 0)
    assert len(told) == 6 and str(told[-1].message) == "195 more datasets have a single row too"
