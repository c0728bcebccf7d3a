"""Actors start at their prior, move towards p ∝ reward, and go on from a checkpoint as if nothing had happened."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hbo.config.actors import ACTORS
from hbo.config.balance import ActorConfig
from hbo.core.actors import (
    Adam,
    AnnealedActor,
    Exp3Actor,
    LossSoftmaxActor,
    MLPActor,
    ODMActor,
    Smoothed,
    SoftmaxActor,
    TrackingActor,
    actor_of,
)
from hbo.errors import ConfigError, RewardError

KINDS = [SoftmaxActor, MLPActor, TrackingActor]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def smoothed(prior):
    return Smoothed(SoftmaxActor(prior, 1e-2), 0.9)


EVERY = [*KINDS, AnnealedActor, LossSoftmaxActor, Exp3Actor, ODMActor, smoothed]
every_kind = pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)


def fast(kind, prior):
    """An actor that gets somewhere within a few updates."""
    return kind(prior, learning_rate=1e-2) if kind in (SoftmaxActor, MLPActor) else kind(prior)


def priors(max_size=8):
    weights = hnp.arrays(np.float64, st.integers(1, max_size), elements=st.floats(1e-6, 1e6))
    return weights.map(lambda w: w / w.sum())


@every_kind
@given(prior=priors())
def test_an_actor_starts_exactly_at_its_prior(kind, prior):
    assert kind(prior).policy.tobytes() == prior.tobytes()


@every_kind
def test_a_prior_with_a_zero_is_kept_exactly_too(kind):
    assert kind([0.3, 0.0, 0.7]).policy.tolist() == [0.3, 0.0, 0.7]


@each_kind
@settings(max_examples=5, deadline=None)
@given(
    reward=hnp.arrays(np.float64, 4, elements=st.floats(0.2, 5.0)),
    prior=hnp.arrays(np.float64, 4, elements=st.floats(0.2, 5.0)).map(lambda w: w / w.sum()),
)
def test_the_policy_converges_to_probabilities_proportional_to_the_rewards(kind, reward, prior):
    actor = fast(kind, prior)
    for _ in range(40):
        actor.learn(reward)
    # Adam jitters around the fixed point by about its step; the closed form does not.
    assert actor.policy == pytest.approx(reward / reward.sum(), rel=1e-9 if kind is TrackingActor else 0.05)
    assert actor.policy.sum() == pytest.approx(1, abs=1e-12)


@each_kind
def test_the_fixed_point_is_not_all_mass_on_the_best_choice(kind):
    actor = fast(kind, [0.01, 0.99])
    for _ in range(60):
        actor.learn([3.0, 1.0])
    assert actor.policy == pytest.approx([0.75, 0.25], abs=0.02)


@each_kind
def test_an_actor_at_its_fixed_point_stays_there(kind):
    actor = fast(kind, [0.2, 0.3, 0.5])
    actor.learn([2.0, 3.0, 5.0])
    assert actor.policy == pytest.approx([0.2, 0.3, 0.5], abs=1e-9)


@each_kind
@pytest.mark.parametrize("scale", [1e-2, 1e3])
def test_the_scale_of_the_rewards_does_not_matter(kind, scale):
    plain, scaled = kind([0.4, 0.6]), kind([0.4, 0.6])
    plain.learn([3.0, 1.0])
    scaled.learn([3.0 * scale, 1.0 * scale])
    assert scaled.policy == pytest.approx(plain.policy, abs=1e-5)


def test_one_update_at_the_defaults_moves_a_logit_by_about_a_fiftieth():
    # Two above and two below their share, so that the logits' mean, which no policy shows, stays where it was.
    actor = SoftmaxActor([0.25] * 4)
    actor.learn([1.0, 1.0, 3.0, 3.0])
    logits = np.log(actor.policy)
    assert logits - logits.mean() == pytest.approx([-0.02, -0.02, 0.02, 0.02], rel=0.05)


def test_the_mlp_takes_the_gradient_through_both_layers():
    # Numerically: −Σ R log p differentiated by every parameter, against the one Adam step that it causes.
    actor = MLPActor([0.2, 0.8], hidden=3, steps=5, learning_rate=1e-2)
    actor.learn([2.0, 1.0])  # away from the zeros of the second layer
    reward, at = np.array([1.0, 3.0]), actor.parameter.copy()

    def loss(parameter):
        actor.parameter = parameter
        return -(reward * np.log(actor.policy)).sum()

    def nudge(i):
        return 1e-6 * (np.arange(len(at)) == i)

    expected = np.array([(loss(at + nudge(i)) - loss(at - nudge(i))) / 2e-6 for i in range(len(at))])
    seen = []
    actor.parameter, actor.steps, actor.adam.step = at, 1, lambda parameter, gradient: seen.append(gradient)
    actor.learn(reward)
    assert seen[0] == pytest.approx(expected, abs=1e-6)


def test_adam_is_torchs_adam():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    ours, adam = np.ones(3), Adam(3, 1e-2)
    theirs = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = torch.optim.Adam([theirs], lr=1e-2)
    for _ in range(20):
        gradient = rng.normal(size=3)
        adam.step(ours, gradient)
        theirs.grad = torch.tensor(gradient)
        optimizer.step()
    assert ours == pytest.approx(theirs.detach().numpy(), rel=1e-12)


def test_tracking_is_the_closed_form():
    actor = TrackingActor([0.5, 0.5], rate=0.25)
    actor.learn([1.0, 16.0])
    assert actor.policy == pytest.approx([1 / 3, 2 / 3])


def test_tracking_shrinks_the_log_distance_by_one_minus_rate():
    actor = TrackingActor([0.5, 0.5], rate=0.25)
    for update in range(1, 4):
        actor.learn([1.0, 16.0])
        assert np.log(actor.policy[1] / actor.policy[0]) == pytest.approx(np.log(16) * (1 - 0.75**update))


@every_kind
def test_a_choice_without_prior_is_never_given_mass(kind):
    actor = fast(kind, [0.5, 0.0, 0.5])
    for _ in range(10):
        actor.learn([1.0, 100.0, 1.0])
    assert actor.policy[1] == 0
    assert actor.policy.sum() == pytest.approx(1)


@every_kind
def test_a_single_choice_keeps_all_the_mass(kind):
    actor = fast(kind, [1.0])
    actor.learn([7.0])
    assert actor.policy.tolist() == [1.0]


@every_kind
def test_state_through_json_goes_on_bit_for_bit(kind):
    rewards = np.random.default_rng(0).uniform(0.5, 2.0, (6, 3))
    actor = fast(kind, [0.2, 0.3, 0.5])
    for reward in rewards[:3]:
        actor.learn(reward)
    restored = fast(kind, [1 / 3] * 3)
    restored.load_state_dict(json.loads(json.dumps(actor.state_dict())))
    assert restored.policy.tobytes() == actor.policy.tobytes()
    for reward in rewards[3:]:
        actor.learn(reward)
        restored.learn(reward)
        assert restored.policy.tobytes() == actor.policy.tobytes()


@every_kind
def test_a_saved_state_does_not_change_with_the_actor(kind):
    actor = fast(kind, [0.5, 0.5])
    saved = actor.state_dict()
    before = json.dumps(saved)
    actor.learn([1.0, 2.0])
    assert json.dumps(saved) == before


@every_kind
def test_the_policy_handed_out_is_a_copy(kind):
    actor = kind([0.5, 0.5])
    actor.policy[0] = 9.0
    assert actor.policy.tolist() == [0.5, 0.5]


@every_kind
def test_the_prior_handed_in_is_copied(kind):
    prior = np.array([0.5, 0.5])
    actor = kind(prior)
    prior[0] = 0.9
    assert actor.policy.tolist() == [0.5, 0.5]


def test_the_mlps_first_layer_depends_on_its_seed_alone():
    one, same, other = MLPActor([0.5, 0.5]), MLPActor([0.5, 0.5]), MLPActor([0.5, 0.5], seed=1)
    assert one.state_dict() == same.state_dict()
    assert one.state_dict() != other.state_dict()


@every_kind
@pytest.mark.parametrize("prior", [[], [0.5, 0.6], [-0.5, 1.5], [np.nan, 1.0], [[1.0]]], ids=str)
def test_what_is_no_prior_is_refused(kind, prior):
    with pytest.raises(ConfigError, match="sum to 1"):
        kind(prior)


@every_kind
@pytest.mark.parametrize("reward", [[1.0], [1.0, np.nan], [1.0, np.inf], [[1.0, 2.0]]], ids=str)
def test_a_reward_that_is_no_finite_number_per_choice_is_refused_and_changes_nothing(kind, reward):
    actor = kind([0.5, 0.5])
    with pytest.raises(RewardError, match="2 finite rewards"):
        actor.learn(reward)
    assert actor.policy.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("reward", [[1.0, 0.0], [1.0, -1.0]], ids=str)
def test_tracking_refuses_rewards_without_a_logarithm(reward):
    with pytest.raises(RewardError, match="use actor softmax"):
        TrackingActor([0.5, 0.5]).learn(reward)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, np.nan])
def test_a_tracking_rate_out_of_range_is_refused(rate):
    with pytest.raises(ConfigError, match="rate is"):
        TrackingActor([0.5, 0.5], rate=rate)


@pytest.mark.parametrize("kind", ACTORS)
def test_every_actor_of_the_table_begins_at_its_prior(kind):
    assert actor_of(ActorConfig(kind=kind, ema=0.9), np.array([0.25, 0.75])).policy.tolist() == [0.25, 0.75]


class Greedy(TrackingActor):
    """An actor of one's own, which takes one of the settings."""

    def __init__(self, prior, steps):
        super().__init__(prior, rate=1.0)
        self.steps = steps


def test_an_own_actor_is_made_with_the_settings_that_it_names():
    actor = actor_of(ActorConfig(kind=f"{__name__}:Greedy", steps=7), np.array([0.5, 0.5]))
    actor.learn([1.0, 3.0])
    assert isinstance(actor, Greedy) and actor.steps == 7
    assert actor.policy.tolist() == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize("kind", ["no_such_module:Actor", f"{__name__}:NoSuchActor"])
def test_an_own_actor_that_is_not_there_is_named(kind):
    with pytest.raises(ConfigError, match=f"balance.actor.kind is '{kind}', which can't be imported"):
        actor_of(ActorConfig(kind=kind), np.array([0.5, 0.5]))


def test_an_actor_that_is_no_name_and_no_class_is_refused():
    with pytest.raises(ConfigError, match=r"'kind' is 'lstm', but input should be one of softmax, .*pkg.module:Class"):
        ActorConfig(kind="lstm")
