"""The uses of one parameter in a pass, each as its rule gives it, and the norm of their sum.

Letters: B batch, T tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from hbo.rewards.norms.outer_products import Outer, squared, widened


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


def alone(use: Use) -> Tensor:
    """‖gradient‖² of each row (B,), of a parameter used once."""
    match use:
        case Outer():
            return use.square_norms()
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
    outers = [use for use in uses if isinstance(use, Outer)]
    heads = [use for use in uses if isinstance(use, HeadUse)]
    by_id = [use for use in outers if use.left.dim() == 2]
    if len(heads) == 1 and by_id and len(by_id) == len(uses) - 1:
        return _tied(heads[0], by_id)
    if len(outers) == len(uses) and len(by_id) in (0, len(uses)):
        return reduce(Outer.joined, outers).square_norms()
    tensors = [use for use in uses if isinstance(use, Tensor)]
    if by_id or len(outers) + len(tensors) < len(uses):
        raise Apart("is used in ways that can't be added up")
    whole = [widened(use) for use in tensors] + [widened(use.left.mT @ use.right) for use in outers]
    return squared(torch.stack(whole).sum(0))


def _tied(head: HeadUse, lookups: list[Outer]) -> Tensor:
    """‖G + E‖² = ‖G‖² + ‖E‖² + 2⟨G, E⟩, G the head's gradient and E that of the embedding, which is looked up by id."""
    total_B = head.square_B + reduce(Outer.joined, lookups).square_norms()
    for use in lookups:
        if head.at_ids_BTH is None or use.right.shape != head.at_ids_BTH.shape:
            raise Apart("is looked up with other ids than those of the rows, and is the head's weight too")
        total_B = total_B + 2 * (widened(use.right) * head.at_ids_BTH).flatten(1).sum(1)
    return total_B
