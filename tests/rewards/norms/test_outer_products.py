"""Norms of sums of outer products, and of all uses of a parameter, equal those of the sums."""

from __future__ import annotations

import pytest
import torch

from hbo.rewards.norms import outer_products
from hbo.rewards.norms.outer_products import Apart, Outer, Squares, norms_of_one, norms_of_sum, same_type


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


B, T, V, H = 3, 5, 11, 4


def dense(seed):
    torch.manual_seed(seed)
    return Outer(torch.randn(B, T, V), torch.randn(B, T, H))


def by_id(seed):
    torch.manual_seed(seed)
    return Outer(torch.randint(0, V, (B, T)), torch.randn(B, T, H))


def whole(use):
    if isinstance(use, torch.Tensor):
        return use
    left = torch.nn.functional.one_hot(use.left, V).float() if use.left.dim() == 2 else use.left
    return left.mT @ use.right


@pytest.mark.parametrize(
    "uses",
    [
        [dense(0)], [by_id(0)], [torch.ones(B, V, H)], [dense(0), dense(1)], [by_id(0), by_id(1)],
        [by_id(0), dense(1)], [by_id(0), by_id(1), dense(2), dense(3)], [torch.ones(B, V, H), dense(1)],
    ],
    ids=["linear", "embedding", "tensor", "linear twice", "embedding twice", "tied", "tied twice", "tensor and linear"],
)  # fmt: skip
def test_the_norm_is_that_of_the_sum_of_all_uses(uses):
    expected = sum(whole(use) for use in uses).square().sum((1, 2))
    torch.testing.assert_close(norms_of_sum(uses), expected, rtol=1e-4, atol=0)
    if len(uses) == 1:
        torch.testing.assert_close(norms_of_one(uses[0]), expected, rtol=1e-4, atol=0)


def test_a_head_whose_gradient_is_gone_is_added_to_the_lookup_of_its_own_weight():
    head, lookup = dense(0), by_id(1)
    of_head = whole(head)
    at_ids = of_head.gather(1, lookup.left[..., None].expand(-1, -1, H))
    use = Squares(head.square_norms(), at_ids)
    expected = (of_head + whole(lookup)).square().sum((1, 2))
    torch.testing.assert_close(norms_of_sum([use, lookup]), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "uses",
    [
        [Squares(torch.ones(B)), dense(0)],
        [Squares(torch.ones(B)), by_id(0)],
        [Squares(torch.ones(B), torch.ones(B, T + 1, H)), by_id(0)],
        [by_id(0), torch.ones(B, V, H)],
    ],
    ids=["a norm alone", "a head that kept nothing", "other tokens", "ids and a tensor"],
)
def test_what_can_not_be_added_is_said(uses):
    with pytest.raises(Apart):
        norms_of_sum(uses)
