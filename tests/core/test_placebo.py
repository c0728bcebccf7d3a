"""A placebo gives each choice another's reward, by key, and nothing else changes."""

import numpy as np
import pytest

from hbo.config import HBOConfig
from hbo.core.algorithm import HBO, Rewards
from hbo.core.groups import Groups
from hbo.core.placebo import takers_of

REWARDS = Rewards(
    global_K=np.array([1.0, 2.0, 3.0]),
    local_KL=np.array([[1.0, 2.0], [3.0, 4.0], [5.0, np.nan]]),
    global_se_K=np.array([0.1, 0.2, 0.3]),
    local_se_KL=np.array([[0.1, 0.2], [0.3, 0.4], [0.5, np.nan]]),
    examples=7,
)


def test_every_order_of_the_datasets_comes_equally_often():
    orders = [tuple(takers_of(REWARDS.global_K, None, 0, step)[0].tolist()) for step in range(600)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert min(counts) > 60


def test_rewards_keep_their_errors_and_groups_stay_in_their_dataset():
    dealt = [REWARDS.dealt_out(0, step) for step in range(40)]
    for found in dealt:
        assert sorted(found.global_K.tolist()) == [1.0, 2.0, 3.0]
        assert (found.global_se_K * 10).tolist() == pytest.approx(found.global_K.tolist())
        assert [set(row) for row in found.local_KL[:2].tolist()] == [{1.0, 2.0}, {3.0, 4.0}]
        assert (found.local_se_KL[:2] * 10).tolist() == [pytest.approx(row) for row in found.local_KL[:2].tolist()]
        assert found.examples == 7
    assert any(found.local_KL[0, 0] == 2.0 for found in dealt)


def test_what_was_not_measured_stays_where_it_is():
    for step in range(20):
        assert REWARDS.dealt_out(0, step).local_KL[2].tolist() == pytest.approx([5.0, np.nan], nan_ok=True)


def test_it_is_a_function_of_seed_and_step():
    def dealt(seed, step):
        return REWARDS.dealt_out(seed, step).global_K.tolist()

    assert dealt(0, 5) == dealt(0, 5)
    assert len({tuple(dealt(seed, 5)) for seed in range(20)}) > 1
    assert len({tuple(dealt(0, step)) for step in range(20)}) > 1


def test_the_ledger_holds_what_the_actors_learned_from_and_frozen_levels_have_none():
    groups = Groups.from_columns(["a"] * 4 + ["b"] * 4 + ["c"] * 4, [0, 1] * 6)
    balancer = HBO(groups, HBOConfig(method="placebo", update_every=1, local_reward=None), seed=3)
    entry = balancer.update(Rewards(global_K=REWARDS.global_K), step=4, start=8)
    assert entry.global_reward_K.tolist() == REWARDS.dealt_out(3, 4).global_K.tolist()
    assert entry.local_reward_KL is None
