"""One call of a layer, noted so that its rule can be asked, or the layer be run again, in the backward.

What is noted goes through autograd's own storage (`Tap`): under activation checkpointing it is dropped after the
forward and noted anew when the block is computed again, and what was changed in place meanwhile is noticed.

How rows lie in the tensors of a call is judged from sizes, B rows of T tokens each:

    r   (B, …)          a row of the batch in each entry
    t   (B · T, …)      a token in each entry, row after row: routers and experts have it so
    n   (N, …)          a target in each entry: what passes the head
    1   (1, …)          the same for all rows, of an output, which is then handed to each row: (B, …) from here on
    -   anything else   the same for all rows

A layer without a rule is run again once for each row and differentiated by autograd (`rerun`). That is exact for
whatever doesn't let rows meet: fused experts (of which a row's tokens pass those that its router chose), convolutions,
state space mixers, adapters that combine weights. It takes one more forward and backward of that layer or block, and
the memory of one row's gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from hbo.rewards.norms.layers import Unruly, without_hooks
from hbo.rewards.norms.outer_products import square
from hbo.scoring.devices import Autocast
from hbo.scoring.room import lacks_memory
from hbo.scoring.targets import Targets
from hbo.text import first_line


class Tap(torch.autograd.Function):
    """Passes a layer's outputs on, and tells `receive` in the backward what the layer was given and their slopes."""

    @staticmethod
    def forward(ctx: Any, receive: Any, anchor: Tensor, outputs: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The first `outputs` of the tensors. `anchor` requires a gradient, and so all of them do from here on."""
        ctx.receive, ctx.inputs = receive, len(tensors) - outputs
        ctx.save_for_backward(*tensors[outputs:])
        ctx.set_materialize_grads(False)
        # No views: a model may change a layer's output in place, which autograd forbids for views made here.
        return tuple(tensor.data for tensor in tensors[:outputs])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> Any:
        """The slopes as they are."""
        if any(slope is not None for slope in slopes):
            try:
                inputs = ctx.saved_tensors
            except RuntimeError:  # changed in place since the layer was called
                inputs = None
            ctx.receive(inputs, slopes)
        return (None, None, None, *slopes, *[None] * ctx.inputs)


def tapped(
    results: list[Any], nesting: TreeSpec, places: list[int], outs: list[Tensor], inputs: list[Tensor], receive: Any
) -> Any:
    """A layer's output with these tensors at these places, each behind a `Tap`."""
    anchor = torch.zeros((), device=outs[0].device, requires_grad=True)
    for place, out in zip(places, Tap.apply(receive, anchor, len(outs), *outs, *inputs), strict=True):  # type: ignore[no-untyped-call]
        results[place] = out
    return tree_unflatten(results, nesting)


@dataclass(frozen=True)
class Call:
    """What a layer was called with and gave, the tensors taken out."""

    nesting: TreeSpec
    """How args and kwargs are made of"""
    values: list[Any]
    """these values, None where a tensor is, which are"""
    slots: list[int]
    """these of them."""
    outputs: list[int]
    """Indices of the outputs that have a slope, among all values of the output."""
    layouts: tuple[str, str]
    """Of the tensors that go in, and of those that come out: a letter each, as above."""
    precision: Autocast

    def again(self, layer: nn.Module, parameters: dict[str, Tensor], tensors: list[Tensor]) -> list[Tensor]:
        """The outputs that have a slope, of the layer with these parameters, differentiable in them.

        Without hooks, since what was noted is what they gave the layer, and what it gave them.
        """
        values = list(self.values)
        for slot, tensor in zip(self.slots, tensors, strict=True):
            values[slot] = tensor
        args, kwargs = tree_unflatten(values, self.nesting)
        with torch.enable_grad(), self.precision.again():
            flat, _ = tree_flatten(without_hooks(layer, parameters, *args, **kwargs))
        return [flat[index] for index in self.outputs]


def flat_tensors(value: Any) -> tuple[list[Any], TreeSpec, list[int]]:
    """The values in nested tuples, lists and dictionaries, how they are nested, and which are tensors."""
    flat, spec = tree_flatten(value)
    return flat, spec, [i for i, each in enumerate(flat) if isinstance(each, Tensor)]


def layout_of(tensor: Tensor, targets: Targets, *, in_head: bool, is_output: bool = False) -> str:
    """How rows lie in a tensor: a letter, as above."""
    B, T = targets.shape
    first = tensor.shape[0] if tensor.dim() else 0
    if in_head and first == len(targets.label_N):
        return "n"
    if first == B and tensor.dim() > 1:
        return "r"
    if first == B * T:
        return "t"
    return "1" if is_output and first == 1 and tensor.dim() > 2 else "-"


def fits(tensor: Tensor, layout: str, targets: Targets) -> bool:
    """Whether rows can lie so in a tensor of this size."""
    B, T = targets.shape
    sizes = {"r": B, "t": B * T, "n": len(targets.label_N), "1": 1}
    return layout not in sizes or (tensor.dim() > 0 and tensor.shape[0] == sizes[layout])


def by_row(tensor: Tensor, layout: str, targets: Targets) -> Tensor:
    """The tensor with rows first, (B, …).

    Raises:
        Unruly: They can't be told apart.
    """
    B, T = targets.shape
    match layout:
        case "r" | "1":
            return tensor
        case "t":
            return tensor.reshape(B, T, *tensor.shape[1:])
        case "n":
            return pad_sequence(tensor.split(targets.counts), batch_first=True)  # type: ignore[no-any-return]
        case _:
            if tensor.dim() and tensor.shape[0] == 1:
                return tensor.expand(B, *tensor.shape[1:])
            raise Unruly(f"was given {tuple(tensor.shape)}, in which rows can't be told apart")


def row_of(tensor: Tensor, layout: str, row: int, targets: Targets) -> Tensor:
    """The part of a tensor that belongs to one row, laid out as the whole is."""
    T = targets.shape[1]
    match layout:
        case "r" | "1":
            return tensor[row : row + 1]
        case "t":
            return tensor[row * T : (row + 1) * T]
        case "n":
            parts: tuple[Tensor, ...] = tensor.split(targets.counts)
            return parts[row]
        case _:
            return tensor


def rerun(
    layer: nn.Module,
    names: list[str],
    call: Call,
    inputs: tuple[Tensor, ...],
    slopes: tuple[Tensor | None, ...],
    targets: Targets,
    *,
    whole: bool = False,
) -> dict[str, Tensor]:
    """For each of these parameters of a layer the squared norm of its gradient for each row (B,).

    Args:
        layer: To be run again.
        names: Its parameters, by their names in it.
        call: What it was called with, but for
        inputs: the tensors.
        slopes: Of its outputs.
        targets: Of the batch.
        whole: The gradients (B, *shape) are wanted, not their norms: the parameters are used elsewhere too.

    Raises:
        Unruly: The layer gives something else than before for a row alone, or nothing that can be differentiated.
    """
    if not ({*call.layouts[0]} & {*"rtn"} or "1" in call.layouts[1] or targets.shape[0] == 1):
        raise Unruly("is given nothing in which rows can be told apart")
    # As they are now: a sharded block is whole during its own backward only.
    own = {name: layer.get_parameter(name).detach().requires_grad_() for name in names}
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for row in range(targets.shape[0]):
        tensors = [row_of(each, lay, row, targets) for each, lay in zip(inputs, call.layouts[0], strict=True)]
        try:
            outputs = call.again(layer, own, tensors)
        except Exception as error:  # a layer may raise anything when its rows aren't where they were
            if lacks_memory(error):
                raise
            raise Unruly(f"can't be run for a row alone ({type(error).__name__}: {first_line(error)[:200]})") from error
        pairs = [
            (out, _slope_of(out, slope, lay, row, targets))
            for out, slope, lay in zip(outputs, slopes, call.layouts[1], strict=True)
            if slope is not None and out.requires_grad
        ]
        gradients: Sequence[Tensor | None] = [None] * len(own)
        if pairs:  # none: a row of which no token came by here, as with experts
            outs, arrived = zip(*pairs, strict=True)
            gradients = torch.autograd.grad(outs, list(own.values()), arrived, allow_unused=True)
        for (name, parameter), gradient in zip(own.items(), gradients, strict=True):
            # One gradient is held at a time, unless it is to be added to those of other uses.
            dense = torch.zeros_like(parameter) if gradient is None else gradient
            found[name].append(dense if whole else square(dense))
    return {name: torch.stack(parts) for name, parts in found.items()}


def _slope_of(out: Tensor, slope: Tensor, layout: str, row: int, targets: Targets) -> Tensor:
    part = row_of(slope, layout, row, targets)
    if part.shape != out.shape:
        raise Unruly(f"gives {tuple(out.shape)} for a row alone, not {tuple(part.shape)}")
    return part.to(out.dtype)
