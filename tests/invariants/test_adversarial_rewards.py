"""Whatever is measured, probabilities stay probabilities."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbo import HBO, Groups, HBOConfig
from hbo.core.algorithm import Rewards

K, L = 3, 2
CELLS = [(k, j) for k in range(K) for j in range(L) for _ in range(5) if (k, j) != (2, 1)]  # one group has no rows
REWARD = st.one_of(
    st.sampled_from([0.0, -1.0, 1.0, np.nan, np.inf, -np.inf, 5e-324, 1e-300, 1e99, 1e101, 1e300, 1.7e308]),
    st.floats(allow_nan=True, allow_infinity=True),
)


def arrays(*shape):
    count = int(np.prod(shape))
    return st.lists(REWARD, min_size=count, max_size=count).map(lambda values: np.array(values).reshape(shape))


def balancer(kind, floor, **actor):
    groups = Groups.from_columns(["abc"[k] for k, _ in CELLS], [j for _, j in CELLS])
    return HBO(groups, HBOConfig(min_probability=floor, actor={"kind": kind, "steps": 20, **actor}))


@pytest.mark.parametrize("floor", [0.0, 0.05])
@pytest.mark.parametrize(
    ("kind", "actor"),
    [("softmax", {"learning_rate": 0.1}), ("softmax", {"learning_rate": 50.0}), ("mlp", {"learning_rate": 0.5}),
     ("tracking", {"rate": 0.5}), ("tracking", {"rate": 1.0})],
)  # fmt: skip
@settings(max_examples=60, deadline=None)
@given(updates=st.lists(st.tuples(arrays(K), arrays(K, L)), min_size=1, max_size=6))
def test_no_reward_makes_a_probability_nan_or_the_sum_zero(kind, actor, floor, updates):
    hbo = balancer(kind, floor, **actor)
    for step, (global_K, local_KL) in enumerate(updates, start=1):
        entry = hbo.update(Rewards(global_K=global_K, local_KL=local_KL), step=step, start=step)
        for p_C in (entry.p_K, *entry.q_KL):
            assert np.isfinite(p_C).all()
            assert (p_C >= floor - 1e-12).all()
            assert p_C.sum() == pytest.approx(1)
    json.dumps(hbo.state_dict()["global_actor"], allow_nan=False)


@pytest.mark.parametrize("kind", ["softmax", "mlp", "tracking"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -3.0, 1e200])
def test_a_choice_that_was_not_measured_is_counted_and_moves_no_other(kind, bad):
    one, two = balancer(kind, 0.0), balancer(kind, 0.0)
    one.update(Rewards(global_K=np.array([1.0, 2.0, bad])), step=1, start=1)
    two.update(Rewards(global_K=np.array([1.0, 2.0, np.nan])), step=1, start=1)
    assert one.skipped == 1
    assert one.p_K.tolist() == two.p_K.tolist()
    assert one.p_K[2] == pytest.approx(two.prior_K[2], rel=2e-2)


def test_a_group_without_rows_is_not_counted_as_skipped():
    hbo = balancer("softmax", 0.0)
    hbo.update(Rewards(local_KL=np.array([[1.0, 2.0], [1.0, 2.0], [1.0, np.nan]])), step=1, start=1)
    assert hbo.skipped == 0


@pytest.mark.parametrize("kind", ["softmax", "mlp", "tracking"])
def test_an_actor_recovers_from_absurd_rewards(kind):
    hbo = balancer(kind, 0.0, rate=1.0, learning_rate=0.1)
    hbo.update(Rewards(global_K=np.array([1e-300, 1e99, 1e-300])), step=1, start=1)
    for step in range(2, 200):
        hbo.update(Rewards(global_K=np.array([8.0, 1.0, 1.0])), step=step, start=step)
    if kind != "softmax" and kind != "mlp":
        assert hbo.p_K == pytest.approx([0.8, 0.1, 0.1], rel=1e-6)
    assert np.isfinite(hbo.p_K).all()
