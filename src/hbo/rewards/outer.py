"""Norms of sums of outer products, without forming the sums.

A weight's gradient for one row is Σ_t left_t right_tᵀ: for a linear layer, the slopes of the outputs times the
inputs; for an embedding, one-hot token ids times the slopes of the outputs. A weight used twice has the sum of both.

    ‖Σ_t l_t r_tᵀ‖² = Σ_t Σ_u (l_t · l_u)(r_t · r_u)         the Gram form, for short rows and large weights
                    = the squared entries of lᵀ r, summed     the direct form, for long rows and small weights

Letters: B batch, T tokens, O and I the two sizes of a weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hbo.scoring.matmul import products

_CHUNK = 2**24  # entries of a Gram matrix or a gradient held at once: 64 MB in fp32
_TILE = 16  # tokens; what has other than a multiple of them as columns, MKL multiplies at four fifths of its speed
_SHORT = 32  # tokens below which a Gram matrix isn't worth taking in two products


@dataclass(frozen=True)
class Outer:
    """One use of a weight: factors whose outer products, summed over a row's tokens, are that row's gradient.

    Either factor is (B, T, size), or (B, T) of token ids that stand for one-hot vectors. With `counts`, the rows lie
    one after the other: (N, size), N the sum of the counts.
    """

    left: Tensor
    right: Tensor
    counts: list[int] | None = None

    def rows(self) -> list[tuple[Tensor, Tensor]]:
        """The factors of each row, (T, size) or (T,).

        Raises:
            Nothing.
        """
        if self.counts is None:
            return list(zip(self.left, self.right, strict=True))
        return list(zip(torch.split(self.left, self.counts), torch.split(self.right, self.counts), strict=True))


@dataclass(frozen=True)
class Gram:
    """A factor (B, T, size) of which only the inner products of its tokens are known: they are less to keep."""

    blocks: list[Tensor]

    @classmethod
    def of(cls, tensor_BTI: Tensor) -> Gram:
        """The Gram matrix of this factor.

        Raises:
            Nothing.
        """
        blocks = gram_blocks(tensor_BTI)
        if len(blocks) > 1:  # what lies below the diagonal stands for what lies above it as well
            blocks[0][:, blocks[0].shape[2] :].mul_(2)
        return cls(blocks)

    def inner(self, other_BTO: Tensor) -> Tensor:
        """The inner product (B,) with the Gram matrix of the other factor: ‖their outer products, summed‖².

        Raises:
            Nothing.
        """
        pairs = zip(gram_blocks(other_BTO), self.blocks, strict=True)
        return torch.stack([torch.linalg.vecdot(one.flatten(1), other.flatten(1)) for one, other in pairs]).sum(0)


@dataclass(frozen=True)
class Beside:
    """The only use of a weight, one factor (B, T, size) as it is and the other as its Gram matrix."""

    factor: Tensor
    gram: Gram


class Grams:
    """Gram matrices of layer inputs, the last one kept: q, k and v (or gate and up) read the same tensor."""

    def __init__(self) -> None:
        self._of: Tensor | None = None
        self._version = 0
        self._gram = Gram([])

    def of(self, tensor_BTI: Tensor) -> Gram:
        """Its Gram matrix.

        Raises:
            Nothing.
        """
        of = self._of
        if of is None or (of.data_ptr(), of.shape, of.stride(), of.dtype, self._version) != (
            tensor_BTI.data_ptr(), tensor_BTI.shape, tensor_BTI.stride(), tensor_BTI.dtype, tensor_BTI._version,
        ):  # fmt: skip
            self._of, self._version, self._gram = tensor_BTI, tensor_BTI._version, Gram.of(tensor_BTI)
        return self._gram

    def least(self, tensor_BTI: Tensor, size: int) -> Tensor | Gram:
        """What has to be kept of a factor, the other one having this size: its Gram matrix, or where that isn't what
        their norm is taken from, itself.

        Raises:
            Nothing.
        """
        B, T, _ = tensor_BTI.shape
        fits = B * T * T <= _CHUNK and not _is_direct(tensor_BTI, size)
        return self.of(tensor_BTI) if fits else tensor_BTI


def gram_blocks(tensor_BTI: Tensor) -> list[Tensor]:
    """The Gram matrix over the tokens: whole, (B, T, T), or its left half and the lower right quarter.

    Raises:
        Nothing.
    """
    if not _in_halves(tensor_BTI):
        return [fresh_product(tensor_BTI, tensor_BTI.mT)]
    half = -(-tensor_BTI.shape[1] // (2 * _TILE)) * _TILE
    rest = tensor_BTI[:, half:]
    return [fresh_product(tensor_BTI, tensor_BTI[:, :half].mT), fresh_product(rest, rest.mT)]


def _in_halves(tensor_BTI: Tensor) -> bool:
    return tensor_BTI.is_cpu and tensor_BTI.shape[1] >= _SHORT


def widened(tensor: Tensor) -> Tensor:
    """The tensor in fp32 at least, so that sums over tokens aren't rounded to half precision.

    Raises:
        Nothing.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def fresh_product(one: Tensor, other: Tensor) -> Tensor:
    """The matrix product of factors, in fp32 at least and in memory of its own.

    bf16 is multiplied as it is: each entry is rounded, which in a sum of thousands evens out, and they are summed in
    fp32. fp16, whose range is small, is widened before.

    Raises:
        Nothing.
    """
    if one.dtype is other.dtype is torch.bfloat16:
        return (one @ other).float()
    return products(widened(one), widened(other))


def square_norms(uses: list[Outer], grams: Grams | None = None) -> Tensor:
    """‖the sum of all uses‖² of each row (B,).

    Args:
        uses: Every use of one weight, each oriented as the weight is.
        grams: Keeps the Gram matrix of a right factor that several weights share.

    Raises:
        Nothing.

    Example:
        >>> square_norms([Outer(torch.ones(1, 2, 3), torch.ones(1, 2, 5))])
        tensor([60.])
    """
    total_B = torch.stack([_alone(use, grams or Grams()) for use in uses]).sum(0)
    for i, one in enumerate(uses):
        for other in uses[i + 1 :]:
            total_B = total_B + 2 * _cross(one, other)
    return total_B


def _alone(use: Outer, grams: Grams) -> Tensor:
    if not use.left.is_floating_point():
        return _by_id(use.left, use.right)
    if use.counts is None:
        return _dense(use.left, use.right, grams)
    return torch.cat([_dense(left[None], right[None], Grams()) for left, right in use.rows()])


def _dense(left_BTO: Tensor, right_BTI: Tensor, grams: Grams) -> Tensor:
    T, O, I = *left_BTO.shape[1:], right_BTI.shape[-1]  # noqa: E741 - the sizes as the docstring names them
    direct = _is_direct(right_BTI, O)
    rows = max(1, _CHUNK // max(1, O * I if direct else T * T))
    squares = []
    for left, right in zip(torch.split(left_BTO, rows), torch.split(right_BTI, rows), strict=True):
        if direct:
            squares.append(fresh_product(left.mT, right).square_().sum((1, 2)))
        else:
            squares.append(grams.of(right).inner(left))
    return torch.cat(squares)


def _is_direct(right_BTI: Tensor, O: int) -> bool:  # noqa: E741
    """Whether forming the gradients takes fewer operations than the Gram matrices of both factors.

    Judged by sizes alone, and not by which Gram matrix is kept, so that the same row is always computed alike.
    """
    T, I = right_BTI.shape[1:]  # noqa: E741
    return (0.75 if _in_halves(right_BTI) else 1.0) * T * (O + I) >= O * I


def _by_id(id_BT: Tensor, slope_BTI: Tensor) -> Tensor:
    """An embedding alone: slopes of equal ids of a row are summed first."""
    B = len(id_BT)
    row_B1 = torch.arange(B, device=id_BT.device)[:, None]
    cells, cell_BT = torch.unique(id_BT * B + row_B1, return_inverse=True)
    slope = widened(slope_BTI)
    summed = slope.new_zeros(len(cells), slope.shape[-1])
    summed.index_add_(0, cell_BT.flatten(), slope.flatten(0, 1))
    return slope.new_zeros(B).index_add_(0, cells % B, summed.square_().sum(1))


def _cross(one: Outer, other: Outer) -> Tensor:
    """⟨one's gradient, the other's⟩ of each row."""
    return torch.stack(
        [
            (_products(left, left_2) * _products(right, right_2)).sum()
            for (left, right), (left_2, right_2) in zip(one.rows(), other.rows(), strict=True)
        ]
    )


def _products(one: Tensor, other: Tensor) -> Tensor:
    """Inner products of every token of one factor with every token of the other."""
    if one.is_floating_point() and other.is_floating_point():
        return widened(one) @ widened(other).T
    if one.is_floating_point():
        return widened(one[:, other])
    return widened(other[:, one]).T if other.is_floating_point() else one[:, None] == other
