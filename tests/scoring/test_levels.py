import math
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbo.errors import DataError
from hbo.scoring.levels import assign_levels, check_level_sizes
from hbo.scoring.scores import Scores

NAN = math.nan


def scores(loss, alone=None, tokens=None):
    loss = np.array(loss, dtype=float)
    alone = np.zeros(len(loss)) if alone is None else np.array(alone, dtype=float)
    tokens = np.where(np.isnan(loss), 0, 3) if tokens is None else np.array(tokens)
    return Scores(loss, alone, tokens)


ROW = st.tuples(st.sampled_from("abc"), st.sampled_from([NAN, 0.0, 1.0, 2.5]), st.sampled_from([NAN, 0.0, 1.0]))


@settings(max_examples=200, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=60), st.integers(1, 9), st.sampled_from(["ifd", "loss", "perplexity"]))
def test_no_row_is_lost_and_sizes_differ_by_at_most_one(rows, levels, metric):
    names, loss, alone = zip(*rows, strict=True)
    found = scores(loss, alone)
    counts = {name: names.count(name) for name in names}
    with warnings.catch_warnings(action="ignore"):
        level_N = assign_levels(names, found, metric, levels)
    values = found.ifd_N if metric == "ifd" else found.loss_N
    for name in counts:
        mine = np.array(names) == name
        sizes = np.bincount(level_N[mine], minlength=levels)
        assert len(sizes) == levels
        assert sizes.max() - sizes.min() <= 1
        ranked = sorted(
            np.flatnonzero(mine),
            key=lambda i: (math.isnan(values[i]), values[i] if not math.isnan(values[i]) else 0,
                           math.isnan(loss[i]), 0 if math.isnan(loss[i]) or not math.isnan(values[i]) else loss[i], i),
        )  # fmt: skip
        assert level_N[ranked].tolist() == sorted(level_N[mine])


def test_the_easiest_are_group_0_in_each_dataset():
    level_N = assign_levels(list("abab"), scores([5.0, 1.0, 4.0, 2.0]), "loss", 2)
    assert level_N.tolist() == [1, 0, 0, 1]


def test_ties_keep_the_order_of_row_numbers():
    assert assign_levels(["a"] * 4, scores([1.0] * 4), "loss", 2).tolist() == [0, 0, 1, 1]
    assert assign_levels(["a"] * 4, scores([1.0] * 4), "loss", 2, rows_N=[9, 2, 8, 3]).tolist() == [1, 0, 1, 0]
    assert assign_levels(["a"] * 2, scores([5.0, 1.0], [5.0, 1.0]), "ifd", 2).tolist() == [0, 1]  # whatever the loss


def test_rows_without_ifd_stand_last_by_perplexity_then_row_number():
    found = scores([9.0, NAN, 3.0, NAN, 2.0, 1.0], [1.0, NAN, NAN, NAN, NAN, 1.0])
    with pytest.warns(UserWarning):
        level_N = assign_levels(["a"] * 6, found, "ifd", 6)
    assert np.argsort(level_N).tolist() == [5, 0, 4, 2, 1, 3]


def test_one_warning_per_dataset_names_rows_and_reasons():
    names = ["chat"] * 12 + ["text"] * 2 + ["good"] * 2
    loss = [1.0] * 8 + [NAN, NAN, 1.0, NAN] + [1.0, 1.0] + [1.0, 1.0]
    alone = [NAN] * 7 + [1.0] + [NAN, NAN, 1.0, NAN] + [NAN, NAN] + [1.0, 2.0]
    tokens = [3] * 8 + [0, 0, 3, 3] + [3, 3] + [3, 3]
    with pytest.warns(UserWarning) as caught:
        assign_levels(names, scores(loss, alone, tokens), "ifd", 2, rows_N=[*range(100, 112), 0, 1, 0, 1])
    first, second = (str(warning.message) for warning in caught)
    assert first == (
        "dataset 'chat': IFD can't score 10 of 12 rows (7 with no instruction: rows 100, 101, 102, 103, 104, …; "
        "2 with no response left after truncation: rows 108, 109; 1 with no finite loss under the scorer: row 111); "
        "they are sorted behind the others, by perplexity where it is known, and so fall into the hardest groups"
    )
    assert "dataset 'text': IFD can't score 2 of 2 rows (2 with no instruction: rows 0, 1)" in second


def test_perplexity_can_score_rows_without_instruction():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert assign_levels(["a"] * 2, scores([2.0, 1.0], [NAN, NAN]), "perplexity", 2).tolist() == [1, 0]


def test_one_level_needs_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert assign_levels(["a"] * 2, scores([NAN, NAN]), "ifd", 1).tolist() == [0, 0]


def test_of_fewer_rows_than_levels_each_is_a_level():
    assert assign_levels(list("aaabbc"), scores([3.0, 1.0, 2.0, 2.0, 1.0, 5.0]), "loss", 3).tolist() == [
        2,
        0,
        1,
        1,
        0,
        0,
    ]


def test_datasets_with_fewer_levels_are_named():
    with pytest.warns(UserWarning) as told:
        check_level_sizes({"a": 3, "b": 2, "c": 1}, 3)
    assert [str(warning.message) for warning in told] == [
        "dataset 'b' has 2 rows to train on, so it gets 2 groups instead of 3; add rows for more",
        "dataset 'c' has a single row to train on, so it gets one group instead of 3; add rows for more",
    ]


def test_more_levels_than_any_dataset_has_rows_are_refused():
    with pytest.raises(DataError, match=re.escape("(dataset 'a' 3 rows, dataset 'c' 1 row); ask for at most 3 groups")):
        check_level_sizes({"a": 3, "c": 1}, 4)


def test_of_many_small_datasets_a_few_are_named():
    with pytest.warns(UserWarning) as told:
        check_level_sizes({"large": 9, **{str(i): 1 for i in range(200)}}, 4)
    assert len(told) == 6 and str(told[-1].message) == "195 more datasets get fewer groups too"
