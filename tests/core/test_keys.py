"""What is left to chance is a function of its key, and a purpose's key never changes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hbo.core.keys import Purpose, generator, permuted, uniform


def test_the_purposes_are_those_of_every_release():
    values = {"DATASET": 1, "LEVEL": 2, "SHUFFLE": 3, "STEP": 4, "POOL": 11, "PROBES": 12, "DEV": 13, "ASIDE": 14}
    values |= {"OWN_LOSS": 15, "PLACEBO": 16}
    assert {purpose.name: purpose.value for purpose in Purpose} == values


def test_a_generator_is_numpys_of_its_key():
    assert generator(7, Purpose.PROBES, 200, 3).integers(1000) == np.random.default_rng((7, 12, 200, 3)).integers(1000)


def test_numbers_of_two_purposes_have_nothing_in_common():
    place = np.arange(10_000, dtype=np.uint64)
    one, other = uniform(0, Purpose.DATASET, place), uniform(0, Purpose.LEVEL, place)
    assert ((one >= 0) & (one < 1)).all()
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


@given(st.integers(1, 3000), st.integers(0, 2**32 - 1), st.integers(0, 50), st.integers(0, 10**6))
def test_the_shuffle_is_a_bijection_for_any_size(size, seed, cell, turn):
    index = np.arange(size)

    def full(value):
        return np.full(size, value)

    place = permuted(seed, full(cell), full(turn), index, full(size))
    assert sorted(place.tolist()) == index.tolist()


def test_the_shuffle_reaches_sizes_beyond_memory():
    size = np.full(5, 2**40 + 1)
    place = permuted(0, np.zeros(5, dtype=int), np.zeros(5, dtype=int), np.arange(5), size)
    assert len(set(place.tolist())) == 5
    assert (place < size).all()
    assert place.max() > 2**32
