"""Norms of a parameter's gradient, from the outer products that it is a sum of, and of all its uses together.

A weight's gradient for one row is Σ_t left_t right_tᵀ: for a linear layer, the slopes of the outputs times the inputs;
for an embedding, one-hot token ids times the slopes of the outputs. Its norm is taken without forming it where that
takes less:

    ‖Σ_t l_t r_tᵀ‖² = Σ_t Σ_u (l_t · l_u)(r_t · r_u)         the Gram form, for short rows and large weights
                    = the squared entries of lᵀ r, summed     the direct form, for long rows and small weights

Goodfellow 2015, "Efficient Per-Example Gradient Computations", for one token; Li et al. 2022, "Large Language Models
Can Be Strong Differentially Private Learners", for many ("ghost clipping").

A parameter that is used several times in a pass has the gradient of the sum of its uses, so their norms can't be
added: `norms_of_sum` takes the uses as the rules gave them.

Letters: B batch, T tokens, O and I the two sizes of a weight, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from hbo.compat import DTensor

CHUNK = 2**24
"""Entries of a Gram matrix or a gradient held at once: 32 MB in bf16, 64 MB in fp32."""


@dataclass(frozen=True)
class Outer:
    """One use of a weight (O, I): factors whose outer products, summed over a row's tokens, are that row's gradient."""

    left: Tensor
    """(B, T, O), or token ids (B, T) that stand for one-hot vectors."""
    right: Tensor
    """(B, T, I)."""

    def square_norms(self, last: LastGram | None = None) -> Tensor:
        """‖gradient‖² of each row (B,), in fp32.

        Args:
            last: Spares the Gram matrix of a right factor that was the last one's too.

        Example:
            >>> Outer(torch.ones(1, 2, 3), torch.ones(1, 2, 5)).square_norms()
            tensor([60.])
        """
        left, right = same_type(self.left, self.right)
        T, I = right.shape[1:]  # noqa: E741 - the sizes as the docstring names them
        # By sizes alone, so that the same row is computed alike in every process and after a resumption.
        direct = left.dim() == 3 and T * (left.shape[-1] + I) >= left.shape[-1] * I
        rows = max(1, CHUNK // max(1, left.shape[-1] * I if direct else T * T))
        parts = zip(left.split(rows), right.split(rows), strict=True)
        last = last or LastGram()
        return torch.cat([_direct(*part) if direct else _gram(*part, last) for part in parts])

    def joined(self, other: Outer) -> Outer:
        """Both uses of the weight as one: their tokens stand one behind the other."""
        return Outer(torch.cat([self.left, other.left], 1), torch.cat([self.right, other.right], 1))


class LastGram:
    """The Gram matrix of the factor that was asked for last: q, k and v (or gate and up) read the same input."""

    def __init__(self) -> None:
        self._factor: Tensor | None = None
        self._gram: Tensor | None = None

    def of(self, factor_BTI: Tensor) -> Tensor:
        """The Gram matrix (B, T, T); not to be changed."""
        if self._gram is None or self._factor is None or _identity(self._factor) != _identity(factor_BTI):
            # The factor is kept as well, so that no other can come to lie where it does.
            self._factor, self._gram = factor_BTI, factor_BTI @ factor_BTI.mT
        return self._gram


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor._version


def _direct(left_BTO: Tensor, right_BTI: Tensor) -> Tensor:
    """The gradients themselves, a part of their rows at a time where one alone is large."""
    B, _, O = left_BTO.shape  # noqa: E741
    step = max(1, CHUNK // max(1, B * right_BTI.shape[-1]))
    square_B = right_BTI.new_zeros(B, dtype=torch.float32)
    for at in range(0, O, step):
        square_B += squared(left_BTO[..., at : at + step].mT @ right_BTI)
    return square_B


def _gram(left: Tensor, right_BTI: Tensor, last: LastGram) -> Tensor:
    """Inner products of all pairs of tokens, some of the tokens with all at a time where a row is long."""
    B, T, _ = right_BTI.shape
    step = max(1, CHUNK // max(1, B * T))
    square_B = right_BTI.new_zeros(B, dtype=torch.float32)
    for at in range(0, T, step):
        of_right = last.of(right_BTI) if step >= T else right_BTI[:, at : at + step] @ right_BTI.mT
        if left.dim() == 2:  # one-hot vectors: 1 where the ids are equal
            differs = left[:, at : at + step, None] != left[:, None]
            square_B += widened(of_right).masked_fill(differs, 0.0).sum((1, 2))
        else:
            of_left = left[:, at : at + step] @ left.mT
            square_B += torch.linalg.vecdot(widened(of_left).flatten(1), widened(of_right).flatten(1))
    return square_B


def squared(tensor: Tensor) -> Tensor:
    """The squared norm of each entry (B,) of a tensor (B, …), in fp32."""
    parts = [widened(part).square().sum(1) for part in tensor.flatten(1).split(max(1, CHUNK // len(tensor)), 1)]
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def square(gradient: Tensor) -> Tensor:
    """Its squared norm () in fp32; of a sharded one, what its parts sum up to."""
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    return widened(dense).square().sum() if isinstance(dense, DTensor) else squared(dense.reshape(1, -1))[0]


def widened(tensor: Tensor) -> Tensor:
    """The tensor in fp32 at least, so that sums aren't rounded to half precision."""
    return tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor


def same_type(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Both factors in one type in which they can be multiplied.

    bf16 stays: tensor cores sum its products in fp32. fp16 doesn't, since products of small slopes vanish in it.
    """
    if not left.is_floating_point():
        return left, right if right.dtype is torch.bfloat16 else widened(right)
    if left.dtype is right.dtype is torch.bfloat16:
        return left, right
    return widened(left), widened(right)


@dataclass(frozen=True)
class Squares:
    """A use of which the gradient is gone: the head's, whose slopes (N, V) aren't kept, or a layer's that ran again."""

    square_B: Tensor
    """‖gradient‖² of each row."""
    at_ids_BTH: Tensor | None = None
    """Of the head's gradient (V, H) the vectors of the row's own input tokens, if the input embedding is the same
    weight: all that must be known of it there, since the embedding's gradient is zero elsewhere."""


Use = Outer | Squares | Tensor


class Apart(Exception):  # noqa: N818 - a finding, caught by the caller, not an error
    """Uses of which the sum can't be taken."""


def norms_of_one(use: Use, last: LastGram | None = None) -> Tensor:
    """‖gradient‖² of each row (B,), of a parameter used once."""
    match use:
        case Outer():
            return use.square_norms(last)
        case Squares():
            return use.square_B
        case _:
            return squared(use)


def norms_of_sum(uses: Sequence[Use]) -> Tensor:
    """‖the sum of all uses‖² of each row (B,).

    Raises:
        Apart: They can't be added.
    """
    if len(uses) == 1:
        return norms_of_one(uses[0])
    # By id are embeddings, whose gradient is too large to be formed; the others can be, if need be.
    by_id = [use for use in uses if isinstance(use, Outer) and use.left.dim() == 2]
    dense = [use for use in uses if isinstance(use, Outer) and use.left.dim() == 3]
    heads = [use for use in uses if isinstance(use, Squares)]
    if len(by_id) + len(dense) + len(heads) == len(uses) and len(heads) + bool(dense) <= 1:
        return _outers(by_id, dense, heads)
    tensors = [use for use in uses if isinstance(use, Tensor)]
    if by_id or len(dense) + len(tensors) < len(uses):
        raise Apart("is used in ways that can't be added up")
    whole = [widened(use) for use in tensors] + [widened(use.left.mT @ use.right) for use in dense]
    return squared(torch.stack(whole).sum(0))


def _outers(by_id: list[Outer], dense: list[Outer], heads: list[Squares]) -> Tensor:
    """‖G + E‖² = ‖G‖² + ‖E‖² + 2⟨G, E⟩, G the gradient as a head has it and E that of an embedding, looked up by id."""
    parts = [reduce(Outer.joined, same).square_norms() for same in (by_id, dense) if same]
    parts += [head.square_B for head in heads]
    for lookup in by_id:
        for head in heads:
            if head.at_ids_BTH is None or lookup.right.shape != head.at_ids_BTH.shape:
                raise Apart("is looked up with other ids than those of the rows, and is the head's weight too")
            parts.append(2 * (widened(lookup.right) * head.at_ids_BTH.to(lookup.right.device)).flatten(1).sum(1))
        for use in dense:
            at_ids = widened(use.left).gather(2, lookup.left[:, None].expand(-1, use.left.shape[1], -1))
            parts.append(2 * (widened(lookup.right) * (at_ids.mT @ widened(use.right))).flatten(1).sum(1))
    return torch.stack([part.to(parts[0].device) for part in parts]).sum(0)
