"""The uses of one parameter in a pass, each as its rule gives it, and the norm of their sum.

Letters: B batch, T tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from hbo.rewards.norms.outer_products import LastGram, Outer, squared, widened


@dataclass(frozen=True)
class Squares:
    """A use of which only the squared norm of each row's gradient (B,) is known."""

    square_B: Tensor


@dataclass(frozen=True)
class HeadUse:
    """The head's use of its weight (V, H), of which the logits' slopes (N, V) were not kept.

    Attributes:
        square_B: ‖gradient‖² of each row.
        at_ids_BTH: The row of that gradient that belongs to each of a row's own input tokens: all that is needed of
            it where the input embedding is the same weight, whose gradient is zero elsewhere.
    """

    square_B: Tensor
    at_ids_BTH: Tensor | None = None


Use = Outer | Squares | HeadUse | Tensor


class Apart(Exception):  # noqa: N818 - a finding, caught by the caller, not an error
    """Uses of which the sum can't be taken."""


def alone(use: Use, last: LastGram | None = None) -> Tensor:
    """‖gradient‖² of each row (B,), of a parameter used once."""
    match use:
        case Outer():
            return use.square_norms(last)
        case Squares() | HeadUse():
            return use.square_B
        case _:
            return squared(use)


def together(uses: Sequence[Use]) -> Tensor:
    """‖the sum of all uses‖² of each row (B,).

    Raises:
        Apart: They can't be added.
    """
    if len(uses) == 1:
        return alone(uses[0])
    by_id = [use for use in uses if isinstance(use, Outer) and use.left.dim() == 2]
    dense = [use for use in uses if isinstance(use, Outer) and use.left.dim() == 3]
    heads = [use for use in uses if isinstance(use, HeadUse)]
    if len(by_id) + len(dense) + len(heads) == len(uses) and len(heads) + bool(dense) <= 1:
        return _outers(by_id, dense, heads)
    tensors = [use for use in uses if isinstance(use, Tensor)]
    if by_id or len(dense) + len(tensors) < len(uses):
        raise Apart("is used in ways that can't be added up")
    whole = [widened(use) for use in tensors] + [widened(use.left.mT @ use.right) for use in dense]
    return squared(torch.stack(whole).sum(0))


def _outers(by_id: list[Outer], dense: list[Outer], heads: list[HeadUse]) -> Tensor:
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
