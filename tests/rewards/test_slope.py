"""Method slope: shares reach equal slopes where losses follow power laws, and its past goes on from a checkpoint."""

import numpy as np
import pytest
from tiny_training import ledger, token_rows

from hbo import METHODS
from hbo.core.actors import TrackingActor
from hbo.rewards.past import Past
from hbo.rewards.slope import worth

LAW = {"worth": (1.0, 2.0, 0.5, 0.25), "exponent": 0.5, "noise": 0.01, "transfer": 0.0}


def trained(updates=10, rows=80, *, seed=0, **law):
    """Final counts, final mean loss and that of equal shares, where each loss falls by a power law in its own rows."""
    law = LAW | law
    chance, size_K = np.random.default_rng(seed), np.array(law["worth"])
    K = len(size_K)

    def loss(drawn_K):
        own_K = drawn_K + law["transfer"] * (drawn_K.sum() - drawn_K)
        return size_K * (1 + own_K / 20) ** -law["exponent"]

    actor, past = TrackingActor(np.full(K, 1 / K)), Past([0] * K)
    past.note(loss(np.zeros(K)) + law["noise"] * chance.normal(size=K))
    for _ in range(updates):
        past.now_K = (np.array(past.now_K) + chance.multinomial(rows, actor.policy)).tolist()
        actor.learn(worth(*past.note(loss(np.array(past.now_K)) + law["noise"] * chance.normal(size=K))))
    drawn_K = np.array(past.now_K)
    return drawn_K, loss(drawn_K).mean(), loss(np.full(K, updates * rows / K)).mean()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise", [0.003, 0.02])
def test_counts_come_near_those_of_equal_slopes(seed, noise):
    drawn_K, after, equal = trained(seed=seed, noise=noise)
    best_K = np.array(LAW["worth"]) ** (1 / 1.5)  # n^(a+1) ∝ A
    assert drawn_K / drawn_K.sum() == pytest.approx(best_K / best_K.sum(), abs=0.09)
    assert after < equal - 0.01


def test_a_dataset_that_cannot_be_learned_is_hardly_drawn():
    drawn_K, after, equal = trained(worth=(1.0, 1.0, 1.0, 0.0))
    assert drawn_K[3] < 0.15 * drawn_K.sum()
    assert after < equal


def test_datasets_that_are_learned_alike_are_drawn_alike():
    drawn_K, _, _ = trained(worth=(1.0, 1.0, 1.0, 1.0))
    assert drawn_K / drawn_K.sum() == pytest.approx(0.25, abs=0.07)


def test_a_dataset_of_which_nothing_is_known_counts_as_the_mean():
    drawn_SK = np.outer(np.arange(8), [10, 10, 10])
    falls_S = 4 - np.log1p(drawn_SK[:, 0] / 10)
    loss_SK = np.stack([falls_S, falls_S, 12 - falls_S], axis=1)
    not_drawn_SK = drawn_SK * [1, 1, 0]
    for drawn, loss in ((not_drawn_SK, loss_SK), (drawn_SK, loss_SK * [1, 1, np.nan])):
        reward_K = worth(drawn, loss)
        assert reward_K.tolist() == pytest.approx([reward_K[0]] * 3) and reward_K[0] > 0
    assert worth(drawn_SK, loss_SK * np.nan).tolist() == [1.0] * 3


def test_rows_that_do_harm_are_worth_what_the_mean_lends_them():
    drawn_SK = np.outer(np.arange(6), [10, 10])
    loss_SK = np.stack([3 - 0.5 * np.log1p(drawn_SK[:, 0] / 10), 3 + 0.1 * drawn_SK[:, 1] / 50], axis=1)
    reward_K = worth(drawn_SK, loss_SK)
    assert reward_K[1] == pytest.approx(reward_K.mean() / 6)  # six measurements
    assert worth(drawn_SK, 3 + drawn_SK / 50).tolist() == [1.0, 1.0]


def test_a_transfer_is_seen_where_counts_show_it():
    """Rows of the first lower both losses; counts that vary on their own say so."""
    chance = np.random.default_rng(0)
    drawn_SK = np.cumsum(np.vstack([np.zeros((1, 2)), chance.integers(0, 40, (30, 2))]), axis=0)
    both = np.log1p(drawn_SK[:, 0] / 20)
    reward_K = worth(drawn_SK, np.stack([3 - both, 3 - both], axis=1))
    assert reward_K[0] > 1.5 * reward_K[1]


def test_a_loss_that_could_not_be_measured_says_nothing():
    drawn_SK = np.outer(np.arange(5), [10, 10])
    loss_SK = np.stack([3 - np.log1p(drawn_SK[:, 0] / 10), np.full(5, np.nan)], axis=1)
    assert np.isfinite(worth(drawn_SK, loss_SK)).all()
    assert np.isnan(worth(drawn_SK[:1], loss_SK[:1])).all()


def test_the_past_goes_through_json_as_it_is():
    past = Past([3, 4])
    past.note(np.array([1 / 3, np.nan]))
    again = Past([0, 0])
    again.load(past.to_json())
    assert again.drawn == [[3, 4]]
    assert np.array(again.values) == pytest.approx(np.array([[1 / 3, np.nan]]), nan_ok=True)


def test_the_same_rows_are_looked_at_from_the_untuned_model_on(make_trainer, tmp_path):
    balance = {**METHODS["slope"].model_dump(exclude_unset=True), "method": "slope", "update_every": 3}
    trainer, callback = make_trainer(rows=token_rows(sizes=(60, 40)), balance=balance)
    trainer.train()
    records = ledger(tmp_path / "out")
    past = callback.balancing.measurer.past
    assert past.drawn[0] == [0, 0]
    drawn = np.cumsum([[sum(record["drawn"][name]) for name in "ab"] for record in records], axis=0)
    assert np.array(past.drawn).tolist() == drawn.tolist()
    assert all(4 < loss < 7 for losses in past.values for loss in losses)
    assert records[1]["probe_examples"] == sum(len(rows) for rows in callback.balancing.measurer._looked_at(0))
    assert records[-1]["global"] != records[0]["global"]
