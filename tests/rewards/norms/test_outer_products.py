"""Norms of sums of outer products equal those of the sums, in whichever form they are taken."""

from __future__ import annotations

import pytest
import torch

from hbo.rewards.norms import outer_products
from hbo.rewards.norms.outer_products import Outer, same_type


def summed(left, right):
    if left.dim() == 2:
        left = torch.nn.functional.one_hot(left, 50).to(right.dtype)
    return torch.einsum("bto,bti->boi", left.double(), right.double()).square().sum((1, 2)).float()


@pytest.mark.parametrize("chunk", [2**24, 40], ids=["at once", "in parts"])
@pytest.mark.parametrize("tokens", [1, 5, 70], ids=["one token", "few", "many"])
@pytest.mark.parametrize("of_ids", [False, True], ids=["dense", "ids"])
def test_the_norm_is_that_of_the_sum(monkeypatch, chunk, tokens, of_ids):
    monkeypatch.setattr(outer_products, "CHUNK", chunk)
    torch.manual_seed(tokens)
    left = torch.randint(0, 50, (4, tokens)) if of_ids else torch.randn(4, tokens, 9)
    right = torch.randn(4, tokens, 7)
    torch.testing.assert_close(Outer(left, right).square_norms(), summed(left, right), rtol=1e-4, atol=0)


@pytest.mark.parametrize("of_ids", [False, True], ids=["dense", "ids"])
def test_two_uses_as_one_are_the_norm_of_both_sums(of_ids):
    torch.manual_seed(0)
    lefts = [torch.randint(0, 50, (4, n)) if of_ids else torch.randn(4, n, 9) for n in (3, 6)]
    rights = [torch.randn(4, n, 7) for n in (3, 6)]
    joined = Outer(lefts[0], rights[0]).joined(Outer(lefts[1], rights[1]))
    torch.testing.assert_close(
        joined.square_norms(), summed(torch.cat(lefts, 1), torch.cat(rights, 1)), rtol=1e-4, atol=0
    )


def test_no_gram_matrix_of_a_long_row_is_whole(monkeypatch):
    monkeypatch.setattr(outer_products, "CHUNK", 1000)
    most = []
    real = torch.Tensor.__matmul__

    def watched(self, other):
        most.append(real(self, other))
        return most[-1]

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    left, right = torch.randint(0, 50, (1, 200)), torch.randn(1, 200, 7)
    Outer(left, right).square_norms()
    assert len(most) > 1 and max(each.numel() for each in most) <= 1000


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((torch.bfloat16, torch.bfloat16), torch.bfloat16),
        ((torch.bfloat16, torch.float32), torch.float32),
        ((torch.float16, torch.float16), torch.float32),
    ],
)
def test_only_bf16_is_multiplied_as_it_is(given, expected):
    left, right = same_type(torch.ones(1, 2, 3, dtype=given[0]), torch.ones(1, 2, 3, dtype=given[1]))
    assert left.dtype == right.dtype == expected


def test_small_slopes_in_fp16_do_not_vanish():
    left = torch.full((1, 4, 8), 1e-5, dtype=torch.float16)
    right = torch.full((1, 4, 8), 1e-4, dtype=torch.float16)
    assert Outer(left, right).square_norms() > 0  # each product alone is 1e-9, which fp16 doesn't know
