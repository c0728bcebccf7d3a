"""The best static mixture of made-up laws, whose optimum and noise are known."""

import numpy as np
import pytest

from hbo.compare.optimum import optimum
from hbo.compare.simplex import least_share, spread


def law(share_NK, weight_K, *, lent=0.1):
    """Losses that fall as a power of the rows that a dataset sees, some of them being lent by the others."""
    seen_NK = (1 - lent) * share_NK + lent / share_NK.shape[1]
    return 2 + weight_K * seen_NK**-0.4


def true_best(weight_K, points=40_000):
    datasets = len(weight_K)
    low = least_share(datasets)
    share_NK = low + (1 - datasets * low) * np.random.default_rng(0).dirichlet(np.ones(datasets), size=points)
    return share_NK[law(share_NK, weight_K).mean(axis=1).argmin()]


WEIGHTS = np.array([0.05, 0.2, 0.1, 0.02])


def test_without_noise_the_best_mixture_is_nearly_found():
    share_NK = spread(16, 4)
    found = optimum(share_NK, law(share_NK, WEIGHTS), replicates=50)
    best_K = true_best(WEIGHTS)
    even = law(np.full((1, 4), 0.25), WEIGHTS).mean()
    left = law(found.share_K[None], WEIGHTS).mean() - law(best_K[None], WEIGHTS).mean()
    assert left < 0.1 * (even - law(best_K[None], WEIGHTS).mean())
    assert found.share_K.sum() == pytest.approx(1) and found.share_K.min() >= least_share(4)
    assert found.error < 0.2 * found.deviation


def test_intervals_hold_the_truth_about_as_often_as_they_claim():
    share_NK, noise, best_K = spread(14, 4), 0.01, true_best(WEIGHTS)
    even, worst = law(np.full((1, 4), 0.25), WEIGHTS).mean(), law(share_NK, WEIGHTS).mean(axis=1).max()
    held = []
    for seed in range(30):
        loss_NK = law(share_NK, WEIGHTS) + noise * np.random.default_rng(seed).normal(size=share_NK.shape)
        found = optimum(share_NK, loss_NK, replicates=100)
        there = law(found.share_K[None], WEIGHTS).mean()
        held.append(
            [
                found.gain.low <= even - there <= found.gain.high,
                found.spread.low <= worst - there <= found.spread.high,
                *((found.low_K - 0.01 <= best_K) & (best_K <= found.high_K + 0.01)),
            ]
        )
    share_of = np.mean(held, axis=0)
    assert share_of[0] >= 0.85 and share_of[1] >= 0.85
    assert share_of[2:].min() >= 0.75 and share_of[2:].mean() >= 0.85


def test_where_the_mixture_does_not_matter_no_gain_is_seen():
    share_NK = spread(14, 4)
    found = [
        optimum(share_NK, 2 + 0.01 * np.random.default_rng(seed).normal(size=share_NK.shape), replicates=100)
        for seed in range(20)
    ]
    assert np.mean([each.gain.low <= 0 <= each.gain.high for each in found]) >= 0.8
    # The best looks better than it is; without the correction all gains would be above 0.
    assert abs(np.mean([each.gain.value for each in found])) < 0.002


def test_the_same_runs_give_the_same_answer():
    share_NK = spread(8, 3)
    loss_NK = law(share_NK, WEIGHTS[:3]) + 0.01 * np.random.default_rng(3).normal(size=share_NK.shape)
    one, two = optimum(share_NK, loss_NK), optimum(share_NK, loss_NK)
    assert one.share_K.tolist() == two.share_K.tolist() and one.gain == two.gain
