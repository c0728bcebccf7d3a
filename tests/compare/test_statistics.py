from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbo.compare.statistics import bootstrap_interval, mean_and_error, paired, permutation_p

differences = st.lists(st.integers(-5, 5), min_size=1, max_size=8)


@settings(deadline=None)
@given(differences)
def test_the_p_value_is_that_of_all_sign_flips(x):
    sums = [abs(sum(s * v for s, v in zip(signs, x, strict=True))) for signs in product((1, -1), repeat=len(x))]
    assert permutation_p([v / 10 for v in x]) == sum(s >= abs(sum(x)) for s in sums) / len(sums)


@settings(deadline=None)
@given(differences)
def test_the_p_value_does_not_know_which_method_comes_first(x):
    assert permutation_p(x) == permutation_p([-v for v in x])


def test_equal_runs_give_p_1():
    assert permutation_p([0.0] * 5) == 1
    assert permutation_p([0.0] * 20) == 1


def test_many_pairs_are_sampled_and_never_give_0():
    assert 0 < permutation_p([1.0] * 30) < 1e-3


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8))
def test_the_interval_lies_within_the_values(x):
    low, high = bootstrap_interval(x)
    assert min(x) - 1e-9 <= low <= high <= max(x) + 1e-9


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    intervals = [bootstrap_interval(generator.normal(1, 1, size=20)) for _ in range(100)]
    assert 85 <= sum(low <= 1 <= high for low, high in intervals) <= 100


def test_seeds_are_paired_by_number():
    found = paired({0: 1.0, 1: 5.0, 2: 9.0}, {2: 10.0, 1: 6.0})
    assert (found.mean, found.pairs) == (-1, 2)
    assert found.verdict == "lower in all 2 seeds, which are too few to tell"


def test_a_claim_needs_both_the_interval_and_the_p_value():
    six = {seed: 1.0 + 0.01 * seed for seed in range(6)}
    assert paired(six, dict.fromkeys(six, 0.0)).verdict == "higher"
    mixed = dict(enumerate([-1, -1, -1, -1, -1, -1, 0.6, 0.6]))
    found = paired(mixed, dict.fromkeys(mixed, 0.0))
    assert found.high < 0 < 0.05 < found.p
    assert found.verdict == "no clear difference"


def test_an_interval_with_zero_is_no_difference_seen():
    assert paired({0: 1.0, 1: -1.0}, {0: 0.0, 1: 0.0}).verdict == "no difference seen"
    assert paired({0: 1.0}, {0: 2.0}).verdict == "one seed: no interval"


def test_one_value_has_no_standard_error():
    assert mean_and_error([2.0]) == pytest.approx((2.0, float("nan")), nan_ok=True)
