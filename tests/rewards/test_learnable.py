"""Method learnable: shares follow what is left to learn, not how high a loss is."""

import numpy as np
import pytest
from tiny_training import assert_same_weights, ledger, token_rows, weights

from hbo import METHODS
from hbo.core.actors import TrackingActor
from hbo.rewards.learnable import left
from hbo.rewards.past import Past


def trained(worth_K, floor_K, *, updates=10, rows=80, noise=0.01, seed=0):
    """Final counts, where each loss falls by a power law in its own rows towards a floor."""
    chance, worth_K, floor_K = np.random.default_rng(seed), np.array(worth_K), np.array(floor_K)
    K = len(worth_K)

    def loss(drawn_K):
        return floor_K + worth_K * (1 + drawn_K / 20) ** -0.5 + noise * chance.normal(size=K)

    actor, past = TrackingActor(np.full(K, 1 / K)), Past([0] * K)
    past.note(loss(np.zeros(K)))
    for _ in range(updates):
        past.now_K = (np.array(past.now_K) + chance.multinomial(rows, actor.policy)).tolist()
        actor.learn(left(*past.note(loss(np.array(past.now_K)))))
    return np.array(past.now_K) / sum(past.now_K)


@pytest.mark.parametrize("seed", range(4))
def test_what_can_be_learned_is_drawn_whatever_its_floor(seed):
    share_K = trained((1.0, 2.0, 0.5), (4.0, 1.0, 2.0), seed=seed)
    assert share_K[1] > share_K[0] > share_K[2]
    best_K = np.array((1.0, 2.0, 0.5)) ** (1 / 1.5)
    assert share_K == pytest.approx(best_K / best_K.sum(), abs=0.12)


@pytest.mark.parametrize("seed", range(4))
def test_a_high_loss_that_does_not_fall_is_hardly_drawn(seed):
    share_K = trained((1.0, 1.0, 0.0), (0.5, 0.5, 6.0), seed=seed)
    assert share_K[2] < 0.15


def test_a_loss_that_was_learned_at_once_leaves_nothing():
    drawn_SK = np.outer(np.arange(8), [10, 10])
    mastered = np.array([3.0, 0.3, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01])
    reward_K = left(drawn_SK, np.stack([mastered, 4 - 0.4 * np.log1p(drawn_SK[:, 1] / 10)], axis=1))
    assert reward_K[0] < 0.2 * reward_K[1]


def test_no_more_is_left_than_the_loss():
    drawn_SK = np.outer(np.arange(4), [10, 10])
    loss_SK = np.stack([0.2 - 0.04 * np.arange(4), 3 - 0.5 * np.arange(4)], axis=1)
    assert (left(drawn_SK, loss_SK) <= loss_SK[-1].max()).all()


def test_losses_that_rise_leave_all_alike():
    drawn_SK = np.outer(np.arange(4), [10, 10])
    assert left(drawn_SK, 3 + drawn_SK / 50).tolist() == [1.0, 1.0]
    assert np.isnan(left(drawn_SK[:1], drawn_SK[:1] + 3.0)).all()


def test_a_loss_that_could_not_be_measured_says_nothing():
    drawn_SK = np.outer(np.arange(5), [10, 10])
    loss_SK = np.stack([3 - np.log1p(drawn_SK[:, 0] / 10), np.full(5, np.nan)], axis=1)
    assert np.isfinite(left(drawn_SK, loss_SK)).all()


def test_a_run_moves_by_it_and_resumes_to_the_same_bits(make_trainer, tmp_path):
    balance = {**METHODS["learnable"].model_dump(exclude_unset=True), "method": "learnable", "update_every": 2}
    options = {"rows": token_rows(sizes=(60, 40)), "balance": balance, "save_strategy": "steps", "save_steps": 5}
    whole, callback = make_trainer(**options)
    whole.train()
    records = ledger(tmp_path / "out")
    assert records[-1]["global"] != records[0]["global"]
    assert callback.balancing.measurer.past.drawn[0] == [0, 0]
    again, _ = make_trainer(**options)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    assert_same_weights(weights(again), weights(whole))
    assert [record["global"] for record in ledger(tmp_path / "out")] == [record["global"] for record in records]
