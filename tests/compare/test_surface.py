"""Surfaces through losses of runs at known shares."""

from itertools import product

import numpy as np
import pytest

from hbo.compare.simplex import spread
from hbo.compare.surface import FORMS, Surfaces, bent, lowest


def test_a_law_of_its_own_form_is_found_again():
    share_NK = spread(14, 3)
    loss_NK = 3 + np.array([0.02, 0.1, 0.05]) * bent(share_NK, 0.0)
    fitted = Surfaces(share_NK).fit(loss_NK[None])
    assert FORMS[fitted.form_B[0]].power == 0.0
    other_MK = np.array([[0.2, 0.5, 0.3], [0.6, 0.2, 0.2]])
    expected = (3 + np.array([0.02, 0.1, 0.05]) * bent(other_MK, 0.0)).mean(axis=1)
    assert fitted.mean_loss(other_MK)[0] == pytest.approx(expected, abs=1e-3)


def test_the_error_of_a_run_is_that_of_the_surface_through_all_others():
    share_NK, generator = spread(12, 3), np.random.default_rng(0)
    loss_NK = 2 + 0.1 * bent(share_NK, 0.5) + 0.01 * generator.normal(size=share_NK.shape)
    surfaces = Surfaces(share_NK)
    fitted = surfaces.fit(loss_NK[None])
    terms = surfaces._terms[fitted.form_B[0]]
    k, n, form = 1, 4, FORMS[fitted.form_B[0]]
    rest = np.arange(12) != n
    # The same ridge by hand, without run n: terms and strengths as they are with it.
    x_NK = (bent(share_NK, form.power) - terms.middle_K) / terms.scale_K
    x_NP = np.column_stack([np.ones(12), x_NK, x_NK[:, k] ** 2 - terms.square_K[k]])
    strength = 12 * np.diag([0.0, *(form.own if j == k else form.other for j in range(3)), form.other])
    slope = np.linalg.solve(x_NP[rest].T @ x_NP[rest] + strength, x_NP[rest].T @ loss_NK[rest, k])
    assert fitted.left_BNK[0, n, k] == pytest.approx(loss_NK[n, k] - x_NP[n] @ slope, abs=1e-9)


def test_replicates_are_fitted_as_if_each_were_alone():
    share_NK = spread(10, 3)
    loss_BNK = 2 + 0.1 * np.random.default_rng(1).random((5, 10, 3))
    surfaces = Surfaces(share_NK)
    together = surfaces.fit(loss_BNK).mean_loss(share_NK)
    assert together == pytest.approx(
        np.concatenate([surfaces.fit(each[None]).mean_loss(share_NK) for each in loss_BNK])
    )


def test_the_lowest_sum_is_that_of_all_ways_to_share_the_steps():
    part_BKG = np.random.default_rng(2).normal(size=(6, 3, 13))
    found_BK = lowest(part_BKG, 2)
    ways = [way for way in product(range(2, 13), repeat=3) if sum(way) == 12]
    for part_KG, found_K in zip(part_BKG, found_BK, strict=True):
        assert found_K.sum() == 12 and found_K.min() >= 2
        assert part_KG[range(3), found_K].sum() == pytest.approx(
            min(part_KG[range(3), list(way)].sum() for way in ways)
        )
