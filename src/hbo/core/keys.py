"""Random numbers by key: whatever is left to chance is a pure function of a seed, a purpose and a place.

Nothing has to be drawn before it, on any rank, in any process, at any time. The places are in `Purpose`; two more keys
stand outside of it:

    held-out rows, and those of `train_fraction` and `max_rows`    (split seed, dataset, row)    hbo.data.held_out
    first weights of the actor `mlp`                               its own seed, 0 in every run

The trainer's own randomness (dropout, new weights of an adapter) follows `train.seed`.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from hbo.arrays import Floats, Ints, Words

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2⁶⁴ over the golden ratio, SplitMix64's step from one word to the next."""
_ROUNDS = 8  # of the Feistel network; with the usual four, the orders of groups under 14 rows are visibly uneven


class Purpose(IntEnum):
    """What a random number is for, part of its key behind the run's seed; a value never changes its meaning."""

    DATASET = 1
    """Dataset of a draw: position in the stream."""
    LEVEL = 2
    """Its level: position in the stream."""
    SHUFFLE = 3
    """Order of a group's rows: group, number of the pass over it."""
    STEP = 4
    """Where the spread of a stratified step begins: always 0."""
    POOL = 11
    """Rows of a group that probes are taken from: dataset, level."""
    PROBES = 12
    """Probes of an update: step, group."""
    DEV = 13
    """Rows set aside that an update looks at: step, dataset."""
    ASIDE = 14
    """Rows that are set aside: dataset."""
    OWN_LOSS = 15
    """What a trainer's collator and loss leave to chance when a row is measured: row."""
    PLACEBO = 16
    """Whose reward a choice gets from a placebo: step, and 0 for the datasets or 1 + dataset for its groups."""


def generator(seed: int, purpose: Purpose, *place: int) -> np.random.Generator:
    """numpy's generator of this key, for numbers of which there are few."""
    return np.random.default_rng((seed, purpose, *place))


def mixed(word: Words) -> Words:
    """SplitMix64's finalizer (Steele et al. 2014): a bijection of 64-bit words whose output bits look independent."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    last: Words = word ^ (word >> np.uint64(31))
    return last


def words(*key: int | Words | Ints) -> Words:
    """A random word for each key; parts of it may be arrays, for which there are as many words."""
    word: Words = np.zeros(1, dtype=np.uint64)
    for part in key:
        value = np.atleast_1d(np.asarray(part)).astype(np.uint64)
        word = mixed((word ^ value) + GOLDEN)
    return word


def uniform(seed: int, purpose: Purpose, place: Words) -> Floats:
    """A number in [0, 1) for each place."""
    return (words(seed, purpose, place) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permuted(seed: int, cell: Ints, turn: Ints, index: Ints, size: Ints) -> Ints:
    """Where `index` goes under the permutation of [0, size) that belongs to (seed, cell, turn), elementwise.

    A Feistel network over the smallest even number of bits that covers `size`, walked until it lands inside (Black &
    Rogaway 2002): no array of the group's size is ever made.
    """
    bits = np.ceil(np.log2(np.maximum(size, 2))).astype(np.uint64)
    half = (bits + np.uint64(1)) // np.uint64(2)
    mask = (np.uint64(1) << half) - np.uint64(1)
    key = words(seed, Purpose.SHUFFLE, cell, turn)
    place = index.astype(np.uint64)
    limit = size.astype(np.uint64)
    todo = np.arange(len(place))
    while len(todo):
        left, right = place[todo] >> half[todo], place[todo] & mask[todo]
        for step in range(_ROUNDS):
            # Each round is its own inverse, whatever the hash gives: so the whole is a permutation.
            left, right = right, left ^ (words(step, key[todo], right) & mask[todo])
        place[todo] = (left << half[todo]) | right
        todo = todo[place[todo] >= limit[todo]]  # beyond `size`: walk on, at most about four times
    return place.astype(np.int64)
