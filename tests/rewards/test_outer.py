"""Norms of sums of outer products equal the norms of the sums, written out."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from hbo.rewards import outer
from hbo.rewards.outer import Outer, square_norms

VOCABULARY = 11


def written_out(uses, width):
    """‖Σ‖² of each row by forming every row's gradient, in double precision."""
    squares = []
    for rows in zip(*(use.rows() for use in uses), strict=True):
        gradient = torch.zeros(VOCABULARY, width, dtype=torch.double)
        for left, right in rows:
            dense = left if left.is_floating_point() else torch.eye(VOCABULARY)[left]
            gradient += dense.double().T @ right.double()
        squares.append(gradient.square().sum())
    return torch.stack(squares).float()


@st.composite
def uses_of_one_weight(draw):
    torch.manual_seed(draw(st.integers(0, 2**16)))
    rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    uses = []
    for kind in draw(st.lists(st.sampled_from(["dense", "ids", "ragged"]), min_size=1, max_size=3)):
        tokens = draw(st.integers(1, 15))
        if kind == "ragged":
            counts = draw(st.lists(st.integers(0, 6), min_size=rows, max_size=rows))
            uses.append(Outer(torch.randn(sum(counts), VOCABULARY), torch.randn(sum(counts), width), counts))
        else:
            ids = torch.randint(0, VOCABULARY, (rows, tokens))
            left = ids if kind == "ids" else torch.randn(rows, tokens, VOCABULARY)
            uses.append(Outer(left, torch.randn(rows, tokens, width)))
    return uses, width


@settings(max_examples=100, deadline=None)
@given(uses_of_one_weight(), st.sampled_from([1, 200, 2**24]), st.sampled_from([2, 32]))
def test_norms_equal_the_written_out_gradient_whatever_the_uses_and_the_chunk(drawn, chunk, short):
    uses, width = drawn
    kept, (outer._CHUNK, outer._SHORT) = (outer._CHUNK, outer._SHORT), (chunk, short)
    try:
        found = square_norms(uses)
    finally:
        outer._CHUNK, outer._SHORT = kept
    torch.testing.assert_close(found, written_out(uses, width), rtol=1e-4, atol=1e-3)


def test_half_precision_is_summed_in_fp32():
    # 4096 equal products of 1: their sum squared is 2^24, which bfloat16 sums would miss by far
    use = Outer(torch.ones(1, 4096, 1, dtype=torch.bfloat16), torch.ones(1, 4096, 1, dtype=torch.bfloat16))
    assert square_norms([use]).tolist() == [2.0**24]


@pytest.mark.parametrize("sizes", [(3, 40, 30), (33, 90, 80), (40, 3, 4)], ids=["gram", "gram in blocks", "direct"])
def test_a_shared_gram_matrix_is_not_taken_for_another_input(sizes):
    tokens, out, width = sizes
    grams = outer.Grams()
    for _ in range(3):
        use = Outer(torch.randn(2, tokens, out), torch.randn(2, tokens, width))
        expected = (use.left.mT @ use.right).square().sum((1, 2))
        torch.testing.assert_close(square_norms([use], grams), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(square_norms([use], grams), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("sizes", "is_less"),
    [((3, 40, 30), True), ((33, 90, 80), True), ((40, 3, 4), False)],
    ids=["short", "halves", "long"],
)
def test_what_is_kept_of_a_factor_gives_the_same_norms(sizes, is_less):
    tokens, out, width = sizes
    left, right = torch.randn(2, tokens, out), torch.randn(2, tokens, width)
    kept = outer.Grams().least(right, out)
    assert isinstance(kept, outer.Gram) == is_less
    if is_less:
        torch.testing.assert_close(kept.inner(left), square_norms([Outer(left, right)]), rtol=1e-6, atol=0)


def test_a_factor_that_was_overwritten_has_another_gram_matrix():
    grams, factor = outer.Grams(), torch.randn(2, 5, 30)
    first = grams.of(factor)
    factor.mul_(2)
    torch.testing.assert_close(grams.of(factor).blocks[0], 4 * first.blocks[0])
