"""How a layer's input and the slope of its output give the gradient of its parameters, for each row.

A rule is called with the layer, its input, its output (None if that isn't at hand) and, for the head, the number of
targets of each row; what it returns is called with the slope of the output, and gives for each parameter an Outer (kept
as factors), Beside a Gram matrix if a linear layer's input was given as one, or, for vectors, the gradients (B, …)
themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from transformers.pytorch_utils import Conv1D

from hbo.rewards.outer import Beside, Gram, Outer, widened

Parameters = dict[str, Tensor]
Found = dict[str, Outer | Beside | Tensor]
Gradients = Callable[[Tensor], Found]
Rule = Callable[[nn.Module, Any, Tensor | None, list[int] | None], Gradients]


# Layers seen to multiply by their weight, and to add their bias, last.
_scales: WeakSet[nn.Module] = WeakSet()
_TINY = 1e-20  # weights that can't be divided by


class Unruly(Exception):  # noqa: N818 - a finding, caught by the caller, not an error
    """A layer that doesn't do what its rule supposes."""


def rule_for(layer: nn.Module) -> Rule | None:
    """The rule of a layer, judged by its class and its trainable parameters, or None.

    A subclass that changes `forward`, and a layer whose `forward` was replaced, have no rule of their parent.

    Raises:
        Nothing.
    """
    own = [name for name, parameter in layer.named_parameters(recurse=False) if parameter.requires_grad]
    known = set(own) <= {"weight", "bias"} and "forward" not in vars(layer)
    if isinstance(layer, nn.Embedding):
        return embedding if known and layer.max_norm is None and not layer.scale_grad_by_freq else None
    if known and type(layer).forward is nn.Linear.forward:
        return linear
    if known and type(layer).forward is Conv1D.forward:
        return conv1d
    alone = next(layer.children(), None) is None
    return vectors if alone and all(layer.get_parameter(name).dim() <= 1 for name in own) else None


def linear(layer: nn.Module, x: Tensor | Gram, out: Tensor | None, counts: list[int] | None) -> Gradients:
    """The rule of `nn.Linear`: weight (out, in).

    Raises:
        Nothing.
    """

    def gradients(slope: Tensor) -> Found:
        left = tokens(slope, counts)
        found: Found = {"weight": Beside(left, x) if isinstance(x, Gram) else Outer(left, tokens(x, counts), counts)}
        if layer.bias is not None:
            found["bias"] = _sum_over_tokens(left, counts)
        return found

    return gradients


def conv1d(layer: nn.Module, x: Tensor | Gram, out: Tensor | None, counts: list[int] | None) -> Gradients:
    """The rule of GPT-2's Conv1D: a linear layer with weight (in, out).

    Raises:
        Nothing.
    """

    def gradients(slope: Tensor) -> Found:
        right = tokens(slope, counts)
        weight = Beside(right, x) if isinstance(x, Gram) else Outer(tokens(x, counts), right, counts)
        return {"weight": weight, "bias": _sum_over_tokens(right, counts)}

    return gradients


def embedding(layer: nn.Module, x: Tensor, out: Tensor | None, counts: list[int] | None) -> Gradients:
    """The rule of `nn.Embedding` and of subclasses that multiply what was looked up (Gemma's).

    Raises:
        Unruly: The layer does something else to what it looked up.
    """
    assert isinstance(layer, nn.Embedding)
    if x.is_floating_point() or x.dtype == torch.bool:
        raise Unruly("isn't looked up by token ids")
    scale = None
    if type(layer).forward is not nn.Embedding.forward:
        with torch.no_grad():
            ones = torch.ones((), dtype=layer.weight.dtype, device=x.device).expand_as(layer.weight)
            scale = functional_call(_Bare(layer), {"layer.weight": ones}, (x,))
            if out is not None and not alike(nn.functional.embedding(x, layer.weight) * scale, out):
                raise Unruly("isn't a lookup times a constant")

    def gradients(slope: Tensor) -> Found:
        looked_up = slope if scale is None else slope * scale
        if layer.padding_idx is not None:  # torch gives this token's vector no gradient
            looked_up = looked_up * (x != layer.padding_idx)[..., None]
        return {"weight": Outer(x, looked_up, counts)}

    return gradients


def vectors(layer: nn.Module, x: Tensor, out: Tensor | None, counts: list[int] | None) -> Gradients:
    """The rule of any layer that owns vectors only (RMSNorm, LayerNorm).

    Raises:
        Unruly: The layer works on the head's targets, which aren't laid out row by row.
    """
    if counts is not None:
        raise Unruly("is part of the head")
    # As they are now: a sharded layer is whole during its own forward only.
    own = {name: p.detach() for name, p in layer.named_parameters()}
    version = None if out is None else out._version

    def gradients(slope: Tensor) -> Found:
        intact = out if out is not None and out._version == version else None
        return _of_scale(layer, own, x.detach(), slope, intact) or _row_by_row(layer, own, x.detach(), slope, intact)

    return gradients


def _of_scale(layer: nn.Module, own: Parameters, x: Tensor, slope: Tensor, out: Tensor | None) -> Found | None:
    """The gradients of a norm, which multiplies by its weight at the very end; None if the layer does something else.

    With a weight of ones, and no bias, such a layer gives what it multiplies.
    """
    weight, bias = own.get("weight"), own.get("bias")
    if out is None or weight is None or not own.keys() <= {"weight", "bias"} or weight.shape != out.shape[-1:]:
        return None
    if bias is not None and bias.shape != weight.shape:
        return None
    with torch.no_grad():
        rows = tuple(range(1, slope.dim() - 1))
        divides = bias is None and bool(weight.abs().amin() > _TINY)
        if layer not in _scales or not divides:
            scaled = _with(layer, own, x, torch.ones_like(weight), 0.0)
            if scaled.shape != out.shape or not alike(scaled * weight + (0.0 if bias is None else bias), out):
                return None
        if layer not in _scales:
            # At any weight and bias, and not only where they are now; for a row alone, and not only in its batch.
            other = torch.linspace(0.5, 2.0, len(weight), device=weight.device, dtype=weight.dtype)
            if not alike(_with(layer, own, x[:1], other, 1.0), scaled[:1] * other + float(bias is not None)):
                return None
            if len(x) > 1:
                _scales.add(layer)
        if divides:  # at the first look as well: a resumed run, which looks anew, computes the same to the bit
            return {"weight": (widened(slope) * out).sum(rows) / weight}
        found: Found = {"weight": (widened(slope) * scaled).sum(rows)}
        if bias is not None:
            found["bias"] = widened(slope).sum(rows)
    return found


def _with(layer: nn.Module, own: Parameters, x: Tensor, weight: Tensor, bias: float) -> Tensor:
    """What the layer would give with this weight, and each entry of a bias being this."""
    other = {f"layer.{name}": weight if name == "weight" else torch.full_like(p, bias) for name, p in own.items()}
    out: Tensor = functional_call(_Bare(layer), other, (x,))
    return out


def _row_by_row(layer: nn.Module, own: Parameters, x: Tensor, slope: Tensor, out: Tensor | None) -> Found:
    """The gradients of any layer, differentiated row by row.

    Raises:
        Unruly: It can't be.
    """
    own = {f"layer.{name}": p for name, p in own.items() if p.dim() <= 1}
    bare = _Bare(layer)

    def of_row(x_row: Tensor, slope_row: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        again, pull = vjp(lambda weights: functional_call(bare, weights, (x_row[None],)), own)  # type: ignore[misc]
        return again[0], pull(slope_row[None].to(again.dtype))[0]

    try:
        again, found = vmap(of_row)(x, slope)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise Unruly(f"can't be differentiated row by row ({error})") from error
    if out is not None and not alike(again, out):
        raise Unruly("gives a row alone something else than within its batch")
    return {name.removeprefix("layer."): widened(gradient) for name, gradient in found.items()}


class _Bare(nn.Module):
    """A layer without its hooks."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer.forward(x)
        return out


def alike(again: Tensor, out: Tensor) -> bool:
    """Equal but for rounding, which in half precision may be coarse.

    Raises:
        Nothing.
    """
    tolerance = 1e-3 if out.dtype in (torch.float32, torch.float64) else 5e-2
    again, out = widened(again), widened(out)
    return bool((again - out).abs().amax() <= tolerance * out.abs().amax())


def tokens(tensor: Tensor, counts: list[int] | None) -> Tensor:
    """(B, T, …, size) as (B, tokens, size).

    Raises:
        Nothing.
    """
    return tensor if counts is not None else tensor.flatten(1, -2)


def _sum_over_tokens(slope: Tensor, counts: list[int] | None) -> Tensor:
    rows = slope if counts is None else torch.split(slope, counts)
    if isinstance(rows, Tensor):
        return widened(rows).sum(1)
    return torch.stack([widened(row).sum(0) for row in rows])
