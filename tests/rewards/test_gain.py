"""Method gain: shares follow what the latest rows of a dataset have lowered its loss by, as far as that can be told."""

import numpy as np
import pytest
from datasets import concatenate_datasets
from tiny_training import assert_same_weights, ledger, token_rows, weights

from hbo import METHODS
from hbo.core.actors import TrackingActor
from hbo.rewards.gain import gains


def trained(worth_K, floor_K, power=0.5, *, updates=10, rows=80, noise=0.01, seed=0):
    """Final counts and the last policy, where each loss falls by a power law in its own rows towards a floor."""
    chance, worth_K, floor_K = np.random.default_rng(seed), np.array(worth_K), np.array(floor_K)
    actor = TrackingActor(np.full(len(worth_K), 1 / len(worth_K)))
    drawn, losses = [np.zeros(len(worth_K))], []
    for _ in range(updates):
        drawn.append(drawn[-1] + chance.multinomial(rows, actor.policy))
        losses.append(floor_K + worth_K * (1 + drawn[-1] / 20) ** -power + noise * chance.normal(size=len(worth_K)))
        actor.learn(gains(np.array(drawn[1:]), np.array(losses)))
    return drawn[-1] / drawn[-1].sum(), actor.policy


@pytest.mark.parametrize("seed", range(4))
def test_counts_come_near_to_the_best_ones(seed):
    share_K, _ = trained((1.0, 2.0, 0.5), (4.0, 1.0, 2.0), seed=seed)
    best_K = np.array((1.0, 2.0, 0.5)) ** (1 / 1.5)
    assert share_K == pytest.approx(best_K / best_K.sum(), abs=0.08)


@pytest.mark.parametrize("seed", range(4))
def test_a_high_loss_that_does_not_fall_is_left(seed):
    share_K, policy_K = trained((1.0, 1.0, 0.0), (2.0, 2.0, 4.0), seed=seed)
    assert share_K[2] < 0.27
    assert policy_K[2] < 0.15


@pytest.mark.parametrize("seed", range(4))
def test_what_is_mastered_is_left_although_its_loss_fell_most(seed):
    share_K, policy_K = trained((3.0, 3.0, 5.0), (2.0, 3.0, 0.0), np.array([0.5, 0.5, 3.0]), seed=seed)
    assert share_K[2] < 0.2
    assert policy_K[2] == pytest.approx(1 / 9, abs=0.03)  # a third of the mean, so that it isn't forgotten


def test_after_one_measurement_a_low_loss_promises_less_and_a_high_one_no_more():
    drawn_SK, loss_SK = np.array([[10, 10, 10]]), np.array([[1.0, 2.0, 3.0]])
    assert gains(drawn_SK, loss_SK) / gains(drawn_SK, loss_SK).sum() == pytest.approx([0.2, 0.4, 0.4])


def test_what_may_be_noise_moves_shares_little_and_what_is_not_moves_them_much():
    drawn_SK = np.outer(np.arange(1, 9), [10, 10])
    falls_S = -0.05 * np.log(np.arange(1, 9))
    wiggle_S = np.where(np.arange(8) % 2, 0.15, -0.15)
    sure, unsure = (gains(drawn_SK, np.stack([3 + falls_S + w, 3 + w], axis=1)) for w in (0 * wiggle_S, wiggle_S))
    assert sure[0] > 3 * sure[1]
    assert unsure[0] < 1.5 * unsure[1]


def test_losses_that_rise_leave_all_alike():
    drawn_SK = np.outer(np.arange(1, 6), [10, 10])
    reward_K = gains(drawn_SK, 3 + drawn_SK / 50)
    assert reward_K[0] == pytest.approx(reward_K[1])
    assert (reward_K > 0).all()


def test_a_loss_that_could_not_be_measured_gets_the_mean():
    drawn_SK = np.outer(np.arange(1, 6), [10, 10, 10])
    falls_S = 3 - 0.3 * np.log(drawn_SK[:, 0])
    reward_K = gains(drawn_SK, np.stack([falls_S, 0 * falls_S + 3, np.full(5, np.nan)], axis=1))
    assert reward_K[2] == pytest.approx(reward_K[:2].mean())
    assert gains(drawn_SK, np.full((5, 3), np.nan)).tolist() == [1.0, 1.0, 1.0]


def test_a_measurement_that_failed_once_is_left_out():
    drawn_SK = np.outer(np.arange(1, 8), [10, 10])
    loss_SK = np.stack([3 - 0.4 * np.log(drawn_SK[:, 0]), 0.0 * drawn_SK[:, 1] + 3], axis=1)
    gap = loss_SK.copy()
    gap[2, 0], gap[4] = np.nan, np.nan
    assert gains(drawn_SK, gap) == pytest.approx(gains(drawn_SK, loss_SK), rel=0.1)


def test_losses_of_nothing_leave_all_alike():
    assert gains(np.array([[5, 5], [9, 9]]), np.zeros((2, 2))).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("drawn", [0, 7])
def test_what_was_not_drawn_meanwhile_leaves_the_others_as_they_are(drawn):
    count_S = np.arange(1, 7)
    noise_SK = 0.01 * np.random.default_rng(0).normal(size=(6, 3))
    loss_SK = np.stack([3 - 0.4 * np.log(count_S), 0 * count_S + 3.0, 0 * count_S + 3.0], axis=1) + noise_SK
    reward_K = gains(np.stack([20 * count_S, 20 * count_S, 0 * count_S + drawn], axis=1), loss_SK)
    assert reward_K[0] > 3 * reward_K[1]
    assert reward_K[1] < reward_K[2] < reward_K[0]  # what is expected of it


def options(**more):
    balance = {**METHODS["gain"].model_dump(exclude_unset=True), "method": "gain", "update_every": 2}
    return {"balance": balance, **more}


def test_a_run_moves_by_it_and_resumes_to_the_same_bits(make_trainer, tmp_path):
    given = options(rows=token_rows(sizes=(60, 40)), save_strategy="steps", save_steps=5)
    whole, _ = make_trainer(**given)
    whole.train()
    records = ledger(tmp_path / "out")
    assert records[-1]["global"] != records[0]["global"]
    assert records[-1]["local"] != records[0]["local"]
    again, _ = make_trainer(**given)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    assert_same_weights(weights(again), weights(whole))
    assert [record["global"] for record in ledger(tmp_path / "out")] == [record["global"] for record in records]


def test_no_copy_of_a_row_set_aside_is_drawn(make_trainer):
    rows = token_rows(sizes=(60, 80))
    twin = rows.filter(lambda row: row["hbo_dataset"] == "b").map(lambda row: {"hbo_dataset": "c"})
    trainer, callback = make_trainer(**options(rows=concatenate_datasets([rows, twin]), max_steps=40))
    trainer.train()
    ids = trainer.train_dataset["input_ids"]
    balancing = callback.balancing
    aside = {tuple(ids[number]) for dev in balancing.measurer.dev_K for number in dev.tolist()}
    drawn = {tuple(ids[number]) for number in balancing.groups.order_N.tolist()}
    assert len(aside) > 8
    assert not aside & drawn


def test_a_dataset_under_two_names_asks_for_one_share(make_trainer, tmp_path):
    rows = token_rows(sizes=(40, 40))
    twin = rows.filter(lambda row: row["hbo_dataset"] == "b").map(lambda row: {"hbo_dataset": "c"})
    rows = concatenate_datasets([rows, twin])
    trainer, _ = make_trainer(**options(rows=rows))
    trainer.train()
    reward = ledger(tmp_path / "out")[1]["global_reward"]  # of a single measurement
    assert reward["a"] / reward["b"] == pytest.approx(2, rel=0.2)
