"""What no rule covers is run again in the backward, once for each row, and differentiated by autograd.

That is exact for any layer or block in which rows don't meet, whatever it computes: fused experts (of which a row's
tokens pass those that its router chose), routers, convolutions, state space mixers, attention with sinks, adapters that
combine weights. It takes one more forward and backward of that block alone, and the gradient of one row at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hbo.errors import first_line
from hbo.rewards.norms.calls import Call, row_of
from hbo.rewards.norms.layers import Unruly
from hbo.rewards.norms.outer_products import square
from hbo.scoring.room import lacks_memory
from hbo.scoring.targets import Targets


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
    """For each parameter the squared norm of its gradient for each row (B,), or these gradients (B, *shape).

    Args:
        layer: To be run again, without its own hooks.
        names: Its parameters, by their names in it.
        call: What it was called with.
        inputs: The tensors of that call.
        slopes: Of its outputs.
        targets: Of the batch.
        whole: Gradients are wanted, not their norms: the parameter is used elsewhere too.

    Raises:
        Unruly: The layer gives something else than before for a row alone, or nothing that can be differentiated.
    """
    if not set(call.layouts[0]) & {"r", "t", "n"}:
        rows_known = "1" in call.layouts[1] or targets.shape[0] == 1
        if not rows_known:
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
        gradients = (
            torch.autograd.grad(
                [out for out, _ in pairs], list(own.values()), [slope for _, slope in pairs], allow_unused=True
            )
            if pairs
            else [None] * len(own)
        )
        for (name, parameter), gradient in zip(own.items(), gradients, strict=True):
            dense = torch.zeros_like(parameter) if gradient is None else gradient
            found[name].append(dense if whole else square(dense))
    return {name: torch.stack(parts) for name, parts in found.items()}


def _slope_of(out: Tensor, slope: Tensor, layout: str, row: int, targets: Targets) -> Tensor:
    # An output that all rows share was given to each of them (see `recorder`), so its slopes have rows.
    part = row_of(slope, "r" if layout == "1" else layout, row, targets)
    if part.shape != out.shape:
        raise Unruly(f"gives {tuple(out.shape)} for a row alone, not {tuple(part.shape)}")
    return part.to(out.dtype)
