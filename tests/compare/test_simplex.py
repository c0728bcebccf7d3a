"""Static mixtures spread over the simplex."""

import numpy as np
import pytest

from hbo.compare.simplex import least_share, spread


@pytest.mark.parametrize("datasets", range(2, 13))
def test_every_point_is_a_mixture_above_the_least_share_and_uniform_is_the_first(datasets):
    share_NK = spread(4 * datasets, datasets)
    assert share_NK[0].tolist() == [1 / datasets] * datasets
    assert share_NK.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert share_NK.min() >= least_share(datasets)
    assert len(np.unique(share_NK, axis=0)) == len(share_NK)


@pytest.mark.parametrize("datasets", [2, 4, 12])
def test_each_dataset_is_tried_with_little_and_with_much(datasets):
    share_NK = spread(3 * datasets, datasets)
    assert (share_NK.max(axis=0) > 1.5 / datasets).all()
    assert (share_NK.min(axis=0) < 0.5 / datasets).all()


def test_points_keep_farther_apart_than_chance_would_have_them():
    def nearest(share_NK):
        apart_NN = np.linalg.norm(share_NK[:, None] - share_NK[None], axis=2) + np.eye(len(share_NK)) * 9
        return apart_NN.min()

    low = least_share(4)
    chance = [low + (1 - 4 * low) * np.random.default_rng(s).dirichlet(np.ones(4), size=16) for s in range(200)]
    assert nearest(spread(16, 4)) > np.quantile([nearest(share_NK) for share_NK in chance], 0.95)


def test_the_same_numbers_give_the_same_points_and_a_longer_design_begins_with_the_shorter():
    assert np.array_equal(spread(16, 4), spread(16, 4))
    assert np.array_equal(spread(16, 4)[:12], spread(12, 4))
