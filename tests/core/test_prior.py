"""The prior is n^(1/τ)/Σ, weights replace sizes, and a floor and a ceiling hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hbo.core.prior import ceiled, floored, temperature_prior, weighted_prior
from hbo.errors import ConfigError

sizes = st.lists(st.integers(1, 10**9), min_size=1, max_size=10)
SIZES = {"a": 6, "b": 2, "c": 2}


@given(sizes, st.floats(0.2, 100))
def test_the_prior_is_the_formula_of_the_paper(n, temperature):
    q = temperature_prior(n, temperature)
    # In Python's exact integers and floats, as the paper writes it: shares first, then the exponent.
    share = [size / sum(n) for size in n]
    weight = [s ** (1 / temperature) for s in share]
    assert q == pytest.approx([w / sum(weight) for w in weight], rel=1e-9, abs=1e-300)
    assert q.sum() == pytest.approx(1, abs=1e-12)


@given(sizes)
def test_an_infinite_temperature_is_uniform(n):
    assert temperature_prior(n, np.inf).tolist() == [1 / len(n)] * len(n)


def test_temperature_one_is_proportional_and_ten_in_between():
    assert temperature_prior([900, 100], 1) == pytest.approx([0.9, 0.1])
    assert temperature_prior([900, 100], 10)[0] == pytest.approx(9**0.1 / (9**0.1 + 1))


@given(sizes, st.floats(1e-300, 1e-3))
def test_a_tiny_temperature_neither_overflows_nor_gives_nan(n, temperature):
    q = temperature_prior(n, temperature)
    assert np.isfinite(q).all()
    assert q.sum() == pytest.approx(1)


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), -np.inf])
def test_a_temperature_that_is_not_above_zero_is_refused(temperature):
    with pytest.raises(ConfigError, match="temperature is .*; it must be above 0"):
        temperature_prior([1, 2], temperature)


@pytest.mark.parametrize("bad", [[], [3, 0], [3, -1], [3, np.nan], [3, np.inf], [[3]]], ids=str)
def test_sizes_that_are_not_above_zero_are_refused(bad):
    with pytest.raises(ConfigError, match="size above 0"):
        temperature_prior(bad, 1)


def test_without_weights_the_sizes_decide():
    assert weighted_prior(SIZES, 1.0, {}) == pytest.approx([0.6, 0.2, 0.2])


def test_weights_for_all_replace_sizes_and_temperature():
    for temperature in (1.0, np.inf):
        assert weighted_prior(SIZES, temperature, {"a": 1, "b": 2, "c": 5}).tolist() == [0.125, 0.25, 0.625]


def test_datasets_without_a_weight_share_one_unit_each_by_size():
    # a weighs 2; b and c bring one unit each, which they share by size (equal here).
    assert weighted_prior(SIZES, 1.0, {"a": 2}).tolist() == [0.5, 0.25, 0.25]
    # b weighs 2; the two units of a and c go 3 : 1.
    assert weighted_prior(SIZES, 1.0, {"b": 2}).tolist() == [0.375, 0.5, 0.125]
    assert weighted_prior(SIZES, np.inf, {"b": 2}).tolist() == [0.25, 0.5, 0.25]


def test_a_weight_for_an_unknown_dataset_names_those_there_are():
    with pytest.raises(ConfigError, match="weight for 'd', but the mixture has a, b, c"):
        weighted_prior(SIZES, 1.0, {"d": 1})


@pytest.mark.parametrize("weight", [0, -1, np.nan, np.inf])
def test_a_weight_that_is_no_number_above_zero_is_refused(weight):
    with pytest.raises(ConfigError, match="the weight of 'a'"):
        weighted_prior(SIZES, 1.0, {"a": weight})


probabilities = hnp.arrays(np.float64, st.integers(1, 8), elements=st.just(0.0) | st.floats(1e-9, 1)).filter(np.sum)


@given(probabilities.map(lambda w: w / w.sum()), st.floats(0, 1))
def test_a_floor_holds_and_those_above_keep_their_ratios(p, share):
    floor = share / len(p)
    result = floored(p, floor)
    assert result.sum() == pytest.approx(1)
    assert (result >= floor - 1e-12).all()
    above = result > floor + 1e-12
    assert (result[above] <= p[above] + 1e-12).all()
    if above.sum() > 1:
        ratio = result[above] / p[above]
        assert ratio == pytest.approx(np.full(len(ratio), ratio[0]))


@given(probabilities.map(lambda w: w / w.sum()))
def test_no_floor_changes_no_bit(p):
    assert floored(p, 0.0).tobytes() == p.tobytes()


def test_pushing_one_up_may_push_another_to_the_floor():
    # 0.11 is above the floor until the others have paid for the zero.
    assert floored(np.array([0.79, 0.105, 0.105, 0.0]), 0.1) == pytest.approx([0.7, 0.1, 0.1, 0.1])


def test_a_ceiling_moves_what_is_over_and_loses_none():
    found = ceiled(np.array([100.0, 90.0, 20.0]), np.array([400.0, 40.0, 40.0]))
    assert found[1] == 40.0
    assert found[0] / found[2] == pytest.approx(5)
    assert found.sum() == pytest.approx(210)
