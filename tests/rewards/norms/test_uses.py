"""A parameter used in several ways has the gradient of the sum of its uses."""

from __future__ import annotations

import pytest
import torch

from hbo.rewards.norms.outer_products import Apart, HeadUse, Outer, Squares, alone, together

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
    torch.testing.assert_close(together(uses), expected, rtol=1e-4, atol=0)
    if len(uses) == 1:
        torch.testing.assert_close(alone(uses[0]), expected, rtol=1e-4, atol=0)


def test_a_head_whose_gradient_is_gone_is_added_to_the_lookup_of_its_own_weight():
    head, lookup = dense(0), by_id(1)
    of_head = whole(head)
    at_ids = of_head.gather(1, lookup.left[..., None].expand(-1, -1, H))
    use = HeadUse(head.square_norms(), at_ids)
    expected = (of_head + whole(lookup)).square().sum((1, 2))
    torch.testing.assert_close(together([use, lookup]), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "uses",
    [
        [Squares(torch.ones(B)), dense(0)],
        [HeadUse(torch.ones(B)), by_id(0)],
        [HeadUse(torch.ones(B), torch.ones(B, T + 1, H)), by_id(0)],
        [by_id(0), torch.ones(B, V, H)],
    ],
    ids=["a norm alone", "a head that kept nothing", "other tokens", "ids and a tensor"],
)
def test_what_can_not_be_added_is_said(uses):
    with pytest.raises(Apart):
        together(uses)
