"""Groups hold every row exactly once; levels are equal parts of the rows sorted by score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbo.core.groups import Groups, levels_by_score
from hbo.errors import DataError

scores = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, np.inf, np.nan]) | st.floats(allow_nan=False), min_size=1)
ROWS = [("b", 0), ("a", 1), ("b", 1), ("a", 1), ("b", 0)]


def groups(rows=ROWS, **options):
    return Groups.from_columns([name for name, _ in rows], [level for _, level in rows], **options)


@given(score=scores, data=st.data())
def test_levels_are_equal_parts_in_score_order_and_lose_no_row(score, data):
    levels = data.draw(st.integers(1, len(score)))
    level = levels_by_score(score, levels)
    sizes = np.bincount(level, minlength=levels)
    assert len(level) == len(score) == sizes.sum()
    assert len(sizes) == levels
    assert sizes.max() - sizes.min() <= 1
    finite = ~np.isnan(score)
    key = np.where(finite, score, 0.0)
    # Sorted by (NaN last, score, row), the levels never fall.
    order = sorted(range(len(score)), key=lambda i: (not finite[i], key[i], i))
    assert (np.diff(level[order]) >= 0).all()


def test_equal_scores_keep_the_order_of_the_rows():
    assert levels_by_score([1.0] * 6, 3).tolist() == [0, 0, 1, 1, 2, 2]


def test_equal_scores_keep_the_order_of_the_tie_column():
    assert levels_by_score([1.0] * 4, 2, tie_N=[3, 2, 1, 0]).tolist() == [1, 1, 0, 0]


def test_rows_without_a_score_come_last_even_after_infinity():
    assert levels_by_score([np.nan, np.inf, 0.0], 3).tolist() == [2, 1, 0]


def test_fewer_rows_than_levels_is_an_error_with_numbers():
    with pytest.raises(DataError, match="2 rows can't be cut into 3 groups; ask for at most 2"):
        levels_by_score([1.0, 2.0], 3)


def test_datasets_are_in_order_of_appearance_and_levels_count_from_the_highest():
    found = groups()
    assert found.datasets == ("b", "a")
    assert found.levels == 2
    assert found.sizes_KL.tolist() == [[2, 1], [0, 2]]
    assert found.sizes_K.tolist() == [3, 2]


def test_rows_of_a_group_ascend():
    found = groups()
    assert [found.rows(k, level).tolist() for k in (0, 1) for level in (0, 1)] == [[0, 4], [2], [], [1, 3]]


def test_a_given_order_of_datasets_is_kept_and_may_name_one_without_rows():
    found = groups(datasets=["a", "b", "c"], levels=3)
    assert found.sizes_KL.tolist() == [[0, 2, 0], [2, 1, 0], [0, 0, 0]]
    assert found.rows(2, 0).tolist() == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=1))
def test_every_row_is_in_exactly_its_own_group(rows):
    found = groups(rows, datasets="abc", levels=4)
    seen = {}
    for k, name in enumerate("abc"):
        for level in range(4):
            seen |= dict.fromkeys(found.rows(k, level).tolist(), (name, level))
    assert seen == dict(enumerate(rows))
    assert len(found.order_N) == len(rows)


def test_lengths_are_kept():
    assert groups(length_N=[5, 4, 3, 2, 1]).length_N.tolist() == [5, 4, 3, 2, 1]
    assert groups().length_N is None


def test_no_rows_is_an_error():
    with pytest.raises(DataError, match="no rows"):
        groups([])


@pytest.mark.parametrize("level", [-1, 2])
def test_a_level_out_of_range_is_an_error(level):
    with pytest.raises(DataError, match="levels are 0 to 1"):
        groups([("a", 0), ("a", level)], levels=2)


def test_a_row_of_an_unknown_dataset_is_an_error():
    with pytest.raises(DataError, match="'b'"):
        groups(datasets=["a"])


def test_examples_of_packed_rows_are_counted_per_group():
    rows = [("a", 0), ("b", 1), ("a", 1), ("a", 0)]
    assert groups(rows, levels=2, examples_N=[3, 1, 4, 2]).examples_KL.tolist() == [[5, 4], [0, 1]]
    assert groups(rows, levels=2).examples_KL.tolist() == [[2, 1], [0, 1]]
