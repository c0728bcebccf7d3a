"""Norms without noise, against autograd, and unbiased where the truth is known."""

import numpy as np
import pytest
from test_alignment import DEV, of
from test_probe import mixture
from tiny_models import tiny
from untouched import untouched

from hbo.rewards.passes import Passes, Sets
from hbo.rewards.signal_norm import equal_parts, rooted, signal_norm, target_counts, token_signal_norm
from hbo.scoring.processes import ALONE, Processes
from hbo.scoring.room import Room

ROWS = [np.array([0, 3, 5, 6]), np.array([12, 14])]
ALL = (signal_norm, token_signal_norm)


def sets(rows=ROWS, processes=ALONE):
    return Sets(Passes(mixture()[0], 0, Room(), processes), rows, DEV, gradient_tokens=40)


def test_the_square_is_the_mean_product_of_different_rows():
    model, expected = tiny(), []
    for rows in ROWS:
        own = [of(model, np.array([row])) for row in rows]
        pairs = [a @ b for i, a in enumerate(own) for j, b in enumerate(own) if i != j]
        expected.append(np.mean(pairs))
    assert signal_norm(model, sets()) == pytest.approx(rooted(np.array(expected)), rel=1e-4)


def test_noise_adds_nothing_on_average():
    """Parts of pure noise have a square of 0 on average, while the norm of their mean has not."""
    chance, found, plain = np.random.default_rng(0), [], []
    for _ in range(400):
        part_MD = chance.normal(size=(8, 5))
        total = part_MD.sum(axis=0)
        found.append((total @ total - (part_MD**2).sum()) / 56)
        plain.append((total / 8) @ (total / 8))
    assert abs(np.mean(found)) < 3 * np.std(found) / 20
    assert np.mean(plain) > 0.5


def test_tokens_weigh_by_their_root():
    model = tiny()
    count = [target_counts(sets(), rows).mean() for rows in ROWS]
    assert token_signal_norm(model, sets()) == pytest.approx(signal_norm(model, sets()) * np.sqrt(count), rel=1e-6)


def test_what_is_not_above_zero_counts_as_little_and_where_nothing_is_all_are_alike():
    assert rooted(np.array([4.0, -3.0, 0.0])).tolist() == pytest.approx([2.0, 0.2, 0.2])
    assert rooted(np.array([-1.0, 0.0])).tolist() == [1.0, 1.0]
    assert rooted(np.array([4.0, np.nan])).tolist() == pytest.approx([2.0, np.nan], nan_ok=True)


def test_a_single_row_has_no_signal_to_tell_from_noise():
    assert np.isnan(signal_norm(tiny(), sets([np.array([0]), ROWS[0]]))).tolist() == [True, False]


@pytest.mark.parametrize("count", [1, 2, 7, 8, 20, 32])
def test_parts_are_of_equal_size_and_share_no_row(count):
    parts = list(equal_parts(np.arange(count)))
    assert len(parts) == min(8, count)
    assert len({len(part) for part in parts}) == 1
    assert len(set(np.concatenate(parts).tolist())) == sum(map(len, parts)) > count - 8


def test_processes_share_the_datasets():
    whole = signal_norm(tiny(), sets())
    parts = [signal_norm(tiny(), sets(processes=Processes(rank, 2, np.copy)))[rank] for rank in range(2)]
    assert parts == pytest.approx(whole.tolist(), rel=1e-5)


@pytest.mark.parametrize("function", ALL)
def test_no_trace_is_left(function):
    model = tiny()
    with untouched(model):
        function(model, sets())
