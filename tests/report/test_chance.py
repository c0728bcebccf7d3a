"""Fisher's exact test, against counting all tables by hand."""

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbo.report.chance import fisher_p, is_chance


def counted(first, second, rows):
    both = first + second
    tables = [comb(rows, k) * comb(rows, both - k) for k in range(max(0, both - rows), min(rows, both) + 1)]
    seen = comb(rows, first) * comb(rows, second)
    return sum(table for table in tables if table <= seen) / sum(tables)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))))
def test_it_is_the_share_of_tables_as_unlikely(counts):
    assert fisher_p(*counts) == pytest.approx(counted(*counts), rel=1e-6)


def test_half_of_six_answers_lost_is_chance_and_half_of_sixty_is_not():
    assert is_chance(6, 3, 22)
    assert not is_chance(60, 30, 220)
    assert fisher_p(100_000, 100_000, 200_000) == pytest.approx(1.0)
