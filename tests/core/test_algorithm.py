import json

import numpy as np
import pytest

from hbo.config import HBOConfig
from hbo.core.algorithm import HBO, Rewards
from hbo.core.groups import Groups
from hbo.errors import ConfigError, ResumeError

FAST = {"actor": {"learning_rate": 5e-3}, "update_every": 10}
REWARDS = Rewards(global_K=np.array([1.0, 3.0]), local_KL=np.array([[0.8, 1.0], [1.0, 0.5]]))


def groups(sizes=(12, 4)):
    names = ["a"] * sizes[0] + ["b"] * sizes[1]
    return Groups.from_columns(names, [i % 2 for i in range(len(names))])


def hbo(**config):
    return HBO(groups(), HBOConfig(**{**FAST, **config}))


def test_it_starts_at_the_prior_and_its_first_entry_says_so():
    balancer = hbo()
    assert balancer.p_K.tolist() == [0.75, 0.25]
    assert balancer.q_KL.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert (balancer.ledger[0].step, balancer.ledger[0].start) == (0, 0)


def test_updates_are_due_every_f_steps_and_not_at_the_start():
    assert [step for step in range(31) if hbo().is_due(step)] == [10, 20, 30]
    assert not any(HBO(groups(), HBOConfig(method="uniform", update_every=1)).is_due(step) for step in range(9))


def test_an_update_moves_towards_the_rewards_and_is_recorded():
    balancer = hbo()
    entry = balancer.update(REWARDS, step=10, start=99, drawn_KL=np.ones((2, 2)))
    assert entry.p_K[1] > 0.25
    assert entry.q_KL[0, 1] > 0.5 > entry.q_KL[1, 1]
    assert balancer.ledger[-1] is entry
    assert (entry.p_K == balancer.p_K).all()


def test_many_updates_reach_p_proportional_to_reward():
    balancer = hbo()
    for step in range(10, 1000, 10):
        balancer.update(REWARDS, step=step, start=step)
    assert balancer.p_K == pytest.approx([0.25, 0.75], abs=0.02)
    assert balancer.q_KL[1] == pytest.approx([2 / 3, 1 / 3], abs=0.02)


@pytest.mark.parametrize("tier", ["global", "local"])
def test_a_frozen_level_never_moves(tier):
    balancer = hbo(**{tier: False})
    start = balancer.p_K, balancer.q_KL
    balancer.update(REWARDS, step=10, start=10)
    assert (balancer.p_K == start[0]).all() == (tier == "global")
    assert (balancer.q_KL == start[1]).all() == (tier == "local")


@pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0, np.inf])
def test_a_choice_that_could_not_be_measured_stays_where_it_is(bad):
    names = ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    balancer = HBO(Groups.from_columns(names, [0] * 12), HBOConfig(**FAST))
    balancer.update(Rewards(global_K=np.array([1.0, 2.0, bad])), step=10, start=10)
    assert balancer.p_K[2] == pytest.approx(1 / 3, abs=0.01)
    assert balancer.p_K[1] > balancer.p_K[0]
    assert balancer.skipped == 1


@pytest.mark.parametrize("kind", ["softmax", "mlp", "tracking"])
def test_no_usable_reward_moves_nothing(kind):
    balancer = hbo(actor={"kind": kind})
    balancer.update(Rewards(np.full(2, np.nan), np.zeros((2, 2))), step=10, start=10)
    assert balancer.p_K.tolist() == [0.75, 0.25]
    assert balancer.q_KL.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_the_floor_holds_on_both_levels():
    balancer = hbo(min_probability=0.3, actor={"kind": "tracking", "rate": 1.0})
    balancer.update(Rewards(np.array([1.0, 99.0]), np.array([[1.0, 99.0], [1.0, 1.0]])), step=10, start=10)
    assert balancer.p_K == pytest.approx([0.3, 0.7])
    assert balancer.q_KL[0] == pytest.approx([0.3, 0.7])
    with pytest.raises(ConfigError, match="min_probability"):
        hbo(min_probability=0.6)


def test_one_dataset_in_one_group_is_always_one():
    balancer = HBO(Groups.from_columns(["a"] * 3, [0] * 3), HBOConfig(**FAST))
    balancer.update(Rewards(np.array([2.0]), np.array([[0.9]])), step=10, start=10)
    assert balancer.p_K.tolist() == [1.0]
    assert balancer.q_KL.tolist() == [[1.0]]


@pytest.mark.parametrize("kind", ["softmax", "mlp", "tracking"])
def test_a_restored_balancer_goes_on_to_the_bit(kind):
    first, second = (hbo(actor={"kind": kind, "learning_rate": 5e-3}) for _ in range(2))
    first.update(REWARDS, step=10, start=40)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for balancer in (first, second):
        balancer.update(REWARDS, step=20, start=80)
    assert first.ledger.digest() == second.ledger.digest()
    assert (first.stream.rows(0, 200) == second.stream.rows(0, 200)).all()


def test_the_state_of_another_mixture_or_seed_is_refused():
    state = hbo().state_dict()
    with pytest.raises(ResumeError, match="sizes"):
        HBO(groups((11, 5)), HBOConfig(**FAST)).load_state_dict(state)
    with pytest.raises(ResumeError, match="seed"):
        HBO(groups(), HBOConfig(**FAST), seed=1).load_state_dict(state)


SPIKED = [np.nan, 0.0, -1.0, np.inf]


@pytest.mark.parametrize("bad", SPIKED)
@pytest.mark.parametrize("kind", ["softmax", "mlp", "tracking"])
def test_no_reward_ever_makes_a_probability_nan(kind, bad):
    names = ["a"] * 80 + ["b"] * 10 + ["c"] * 10
    balancer = HBO(
        Groups.from_columns(names, [i % 2 for i in range(100)]), HBOConfig(update_every=1, actor={"kind": kind})
    )
    rewards = [Rewards(np.array([1.0, bad, 3.0]), np.array([[bad, 1.0], [bad, bad], [1.0, 2.0]])), REWARDS_3]
    for step in range(1, 7):
        entry = balancer.update(rewards[step % 2], step=step, start=step)
        assert np.isfinite(entry.p_K).all()
        assert np.isfinite(entry.q_KL).all()
        assert entry.p_K.sum() == pytest.approx(1)
        assert entry.q_KL.sum(axis=1) == pytest.approx([1, 1, 1])
    assert balancer.skipped == 3 * 4


REWARDS_3 = Rewards(np.array([2.0, 1.0, 3.0]), np.ones((3, 2)))


@pytest.mark.parametrize("kind", ["softmax", "mlp"])
@pytest.mark.parametrize("bad", SPIKED)
def test_an_unmeasured_choice_keeps_its_share_while_others_trade_theirs(kind, bad):
    names = ["a"] * 80 + ["b"] * 10 + ["c"] * 10
    balancer = HBO(Groups.from_columns(names, [0] * 100), HBOConfig(update_every=1, actor={"kind": kind}))
    for step in range(1, 6):
        entry = balancer.update(Rewards(np.array([1.0, 3.0, bad])), step=step, start=step)
    assert entry.p_K[2] == pytest.approx(0.1, rel=0.002)
    assert entry.p_K[1] > 0.115


def test_a_single_measured_choice_moves_nothing():
    balancer = hbo(actor={"kind": "tracking"})
    balancer.update(Rewards(np.array([5.0, np.nan])), step=10, start=10)
    assert balancer.p_K == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize("method", ["proportional", "temperature", "uniform"])
def test_static_methods_never_move_whatever_they_are_told(method):
    balancer = HBO(groups(), HBOConfig(method=method))
    p_K, q_KL = balancer.p_K, balancer.q_KL
    balancer.update(REWARDS, step=10, start=10)
    assert balancer.p_K.tobytes() == p_K.tobytes()
    assert balancer.q_KL.tobytes() == q_KL.tobytes()


def test_the_temperature_and_the_weights_set_the_start():
    assert hbo(temperature=float("inf")).p_K.tolist() == [0.5, 0.5]
    assert HBO(groups(), weights={"a": 1, "b": 4}).p_K.tolist() == [0.2, 0.8]
    with pytest.raises(ConfigError, match="weight for 'z'"):
        HBO(groups(), weights={"z": 1})


def test_levels_start_at_their_share_of_rows_and_an_empty_one_at_zero():
    found = Groups.from_columns(["a"] * 4 + ["b"] * 2, [0, 0, 0, 2, 1, 2], levels=3)
    balancer = HBO(found, HBOConfig(**FAST))
    assert balancer.q_KL.tolist() == [[0.75, 0.0, 0.25], [0.0, 0.5, 0.5]]
    local = np.array([[1.0, np.nan, 3.0], [np.nan, 1.0, 3.0]])
    entry = balancer.update(Rewards(local_KL=local), step=10, start=10)
    assert entry.q_KL[0, 1] == entry.q_KL[1, 0] == 0
    assert entry.q_KL[1, 2] > 0.5


def test_a_local_update_does_not_hear_of_its_rewards_scale():
    one, ten = hbo(), hbo()
    one.update(Rewards(local_KL=np.array([[0.8, 1.0], [1.0, 0.5]])), step=10, start=10)
    ten.update(Rewards(local_KL=np.array([[8.0, 10.0], [0.1, 0.05]])), step=10, start=10)
    assert ten.q_KL == pytest.approx(one.q_KL, abs=1e-12)


def test_an_own_actor_is_used_on_both_levels():
    made = []

    class Recorder:
        """Keeps its prior and notes what it hears."""

        def __init__(self, prior):
            self.policy, self.heard = prior, []
            made.append(self)

        def learn(self, reward):
            self.heard.append(np.asarray(reward).tolist())

    balancer = HBO(groups(), HBOConfig(**FAST), actor=Recorder)
    balancer.update(Rewards(np.array([1.0, 3.0]), np.array([[1.0, 3.0], [2.0, 2.0]])), step=10, start=10)
    assert [one.heard for one in made] == [[[1.0, 3.0]], [[0.5, 1.5]], [[1.0, 1.0]]]


def test_the_state_of_other_datasets_is_refused():
    other = HBO(Groups.from_columns(["a"] * 12 + ["z"] * 4, [i % 2 for i in range(16)]), HBOConfig(**FAST))
    with pytest.raises(ResumeError, match="^datasets: .* in the checkpoint"):
        hbo().load_state_dict(other.state_dict())


def test_unmeasured_rewards_survive_a_checkpoint():
    first, second = hbo(), hbo()
    first.update(Rewards(np.array([np.nan, 2.0]), np.full((2, 2), np.nan)), step=10, start=40)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert np.isnan(second.ledger[-1].global_reward_K[0])
    assert second.skipped == first.skipped == 5


@pytest.mark.parametrize("temperature", [1.0, 3.0, float("inf")])
def test_packing_changes_no_probability_of_the_start(temperature):
    config = HBOConfig(**FAST, temperature=temperature)
    packed = Groups.from_columns(["a"] * 3 + ["b"], [0, 1, 1, 0], examples_N=[6, 4, 2, 2])  # 12 and 2 examples
    alone = Groups.from_columns(["a"] * 12 + ["b"] * 2, [0] * 6 + [1] * 6 + [0] * 2)
    assert HBO(packed, config).p_K.tolist() == HBO(alone, config).p_K.tolist()
    assert HBO(packed, config).q_KL.tolist() == HBO(alone, config).q_KL.tolist()


def alone(rewards, **config):
    """The balancer that has heard these rewards once."""
    balancer = hbo(**config)
    balancer.update(rewards, step=10, start=10)
    return balancer


def test_a_signed_reward_of_the_datasets_makes_no_measurement_of_a_negative_one_of_a_group():
    negative = np.array([[0.8, 1.0], [1.0, -1.0]])
    signed = alone(Rewards(np.array([1.0, -3.0]), negative), global_reward="gradient_alignment")
    assert signed.q_KL.tolist() == alone(Rewards(local_KL=negative)).q_KL.tolist()
    assert signed.q_KL[1] == pytest.approx([0.5, 0.5], abs=0.001)  # -1 would have pushed the other up
    assert signed.skipped == 1  # and not the dataset's, which may be negative
    assert signed.p_K[1] < 0.25


def test_a_signed_reward_of_the_groups_makes_no_measurement_of_a_negative_one_of_a_dataset():
    negative = np.array([1.0, -1.0])
    signed = alone(Rewards(negative, np.array([[0.8, -1.0], [1.0, 0.5]])), local_reward="transferability")
    assert signed.p_K.tolist() == alone(Rewards(negative)).p_K.tolist()
    assert signed.skipped == 1
    assert signed.q_KL[0, 1] < 0.5


def test_the_one_actor_over_all_groups_is_judged_by_the_groups_reward():
    local = np.array([[0.8, -1.0], [1.0, 0.5]])
    by_reward = {
        reward: alone(Rewards(local_KL=local), method="mos+", local_reward=reward)
        for reward in ("transferability", "perplexity_ratio")
    }
    assert [balancer.skipped for balancer in by_reward.values()] == [0, 1]
    assert by_reward["transferability"].q_KL[0, 1] < by_reward["perplexity_ratio"].q_KL[0, 1]
