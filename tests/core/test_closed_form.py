"""The closed forms of methods beyond the paper, against their formulas computed by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hbo.core.actors import AnnealedActor, Exp3Actor, LossSoftmaxActor, ODMActor, Smoothed, SoftmaxActor

KINDS = [AnnealedActor, LossSoftmaxActor, Exp3Actor, ODMActor, lambda prior: Smoothed(SoftmaxActor(prior, 1e-2), 0.9)]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=["annealed", "loss_softmax", "exp3", "odm", "smoothed"])
losses = hnp.arrays(np.float64, 3, elements=st.floats(0, 1e3))


@each_kind
@settings(max_examples=50, deadline=None)
@given(rewards=st.lists(losses, min_size=1, max_size=4))
def test_the_policy_is_a_distribution_and_leaves_the_impossible_at_zero(kind, rewards):
    actor = kind([0.3, 0.0, 0.7])
    for reward in rewards:
        actor.learn(reward)
    assert np.isfinite(actor.policy).all()
    assert (actor.policy >= 0).all()
    assert actor.policy.sum() == pytest.approx(1, abs=1e-9)
    assert actor.policy[1] == 0


def test_annealing_goes_from_the_sizes_to_equal_shares():
    actor = AnnealedActor([0.8, 0.2])
    actor.learn([0.5, 0.5])
    assert actor.policy == pytest.approx([2 / 3, 1 / 3])  # τ = 2
    actor.learn([1.0, 1.0])
    assert actor.policy.tolist() == [0.5, 0.5]


def test_loss_softmax_is_the_softmax_of_the_losses():
    actor = LossSoftmaxActor([0.9, 0.1])
    actor.learn([1.0, 1.0 + np.log(3)])
    assert actor.policy == pytest.approx([0.25, 0.75])


def test_exp3_is_its_formula():
    actor = Exp3Actor([0.5, 0.5])
    actor.learn([1.0, 2.0])
    actor.learn([1.0, 2.0])
    w = np.array([0.5, 0.5]) * np.exp(0.3 * np.array([1.0, 2.0]) / (0.5 * 2))
    w /= w.sum()
    pi = 0.9 * w + 0.05
    w *= np.exp(0.3 * np.array([1.0, 2.0]) / (pi * 2))
    assert actor.policy == pytest.approx(0.9 * w / w.sum() + 0.05)


def test_exp3_does_not_overflow_however_long_it_runs():
    actor = Exp3Actor([0.5, 0.5])
    for _ in range(5000):
        actor.learn([1.0, 3.0])
    assert actor.policy == pytest.approx([0.25, 0.75], abs=0.05)


def test_odm_is_its_formula():
    actor = ODMActor([0.5, 0.5])
    for _ in range(8):
        actor.learn([0.0, np.log(3)])
    epsilon = np.sqrt(np.log(2) / (2 * 8))
    assert actor.policy == pytest.approx((1 - 2 * epsilon) * np.array([0.25, 0.75]) + epsilon)


def test_a_smoothed_actor_learns_from_the_average_that_begins_at_one():
    smoothed, plain = Smoothed(SoftmaxActor([0.5, 0.5], 1e-2), 0.9), SoftmaxActor([0.5, 0.5], 1e-2)
    smoothed.learn([3.0, 1.0])
    smoothed.learn([1.0, 1.0])
    plain.learn([2.8, 1.0])
    plain.learn([0.9 + 0.28, 1.0])
    assert smoothed.policy == pytest.approx(plain.policy, rel=1e-12)
