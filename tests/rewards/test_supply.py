"""What datasets still have to give: copies count once, and repeats are planned."""

import numpy as np
import pytest
from datasets import Dataset, Features, Sequence, Value

from hbo.config import HBOConfig
from hbo.core.algorithm import HBO, Rewards
from hbo.core.groups import Groups
from hbo.rewards.supply import Supply, shared_rows
from hbo.scoring.copies import token_hashes


def supply(rows, drawn, to_come):
    return Supply(np.array(rows), np.eye(len(rows)), np.array(drawn), to_come)


def test_a_small_dataset_gets_what_four_passes_leave_and_the_others_the_rest():
    share_K = supply([500, 500, 40], [30, 30, 20], 500).limited(np.array([1.0, 2.0, 3.0]))
    assert share_K[2] == pytest.approx((4 * 40 - 20) / 500)
    assert share_K[1] == pytest.approx(2 * share_K[0])


def test_several_datasets_can_be_at_their_limit():
    share_K = supply([500, 30, 40], [30, 20, 20], 500).limited(np.array([0.2, 0.4, 0.4]))
    assert share_K == pytest.approx([1 - 0.2 - 0.28, 0.2, 0.28])


def test_what_was_drawn_too_often_already_is_left():
    """Through the actor too, for which a reward of 0 would be none at all."""
    share_K = supply([500, 10], [30, 50], 500).limited(np.array([0.5, 0.5]))
    assert share_K == pytest.approx([1.0, 0.0], abs=1e-5)
    groups = Groups.from_columns(["a"] * 500 + ["b"] * 10, [0] * 510)
    balancer = HBO(groups, HBOConfig(method="gain", local_reward=None, update_every=1))
    for step in range(1, 4):
        balancer.update(Rewards(global_K=share_K), step=step, start=100 * step)
    assert balancer.p_K[1] == pytest.approx(0.01)
    assert balancer.skipped == 0


def test_rows_that_stand_in_two_datasets_are_repeated_by_both():
    shared_KK = np.array([[1.0, 0, 0], [0, 1, 1], [0, 1, 1]])
    share_K = Supply(np.array([1000, 40, 40]), shared_KK, np.array([0, 10, 30]), 1000).limited(np.ones(3))
    assert share_K[1:].sum() == pytest.approx((4 * 40 - 40) / 1000, rel=1e-4)


def test_a_long_run_may_repeat_more():
    share_K = supply([100, 100], [0, 0], 2000).limited(np.array([0.7, 0.3]))
    assert share_K.tolist() == pytest.approx([0.7, 0.3])
    assert supply([100, 100], [0, 0], 2000).limited(np.array([0.9, 0.1]))[0] == pytest.approx(0.75)


def test_at_the_end_of_a_run_the_limit_is_that_of_the_whole():
    assert supply([500, 40], [400, 100], 0).limited(np.array([0.5, 0.5]))[1] == pytest.approx(4 * 40 / 500)


def test_before_any_row_is_drawn_nothing_is_limited():
    assert supply([10, 10], [0, 0], 0).limited(np.array([3.0, 1.0])).tolist() == [0.75, 0.25]


def test_columns_of_any_kind_of_list_are_read():
    ids = [[1, 2], [3, 4], [1, 2]]
    for feature in (Sequence(Value("int32")), Sequence(Value("int64"), length=2)):
        rows = Dataset.from_dict({"input_ids": ids}, features=Features({"input_ids": feature}))
        first, second, third = token_hashes(rows)
        assert first == third != second
        assert token_hashes(rows.select([2, 1])).tolist() == [third, second]


@pytest.mark.parametrize("indirect", [False, True])
def test_copies_are_found_in_any_dataset(indirect):
    rows = Dataset.from_list([{"input_ids": ids} for ids in ([9], [1, 2], [1, 2, 3], [4], [1, 2], [5], [4], [1, 2])])
    rows = rows.select([1, 2, 3, 4, 5, 6, 7]) if not indirect else rows.select([1, 3, 2, 4, 5, 6, 7])
    groups = Groups.from_columns(["a", "a", "a", "b", "b", "c", "c"], [0, 1, 0, 0, 1, 0, 1])
    third = 1 / 3
    assert shared_rows(rows, groups) == pytest.approx(
        np.array([[1, third, 2 * third], [0.5, 1, 0.5], [1, 0.5, 1]])  # a and b share [1, 2], a and c that and [4]
    )


def test_rows_that_stand_twice_in_one_dataset_are_no_copies():
    rows = [{"input_ids": [1]}, {"input_ids": [1]}, {"input_ids": [2]}]
    assert shared_rows(rows, Groups.from_columns(["a", "a", "b"], [0, 0, 0])).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_datasets_that_share_rows_get_alike_and_no_more_than_one():
    shared_KK = np.array([[1.0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    reward_K = Supply(np.full(4, 9), shared_KK, np.zeros(4), 0).divided(np.array([1.0, 2.0, 6.0, 5.0]))
    assert reward_K.tolist() == [1.0, 2.0, 2.0, 5.0]
