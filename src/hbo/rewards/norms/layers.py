"""A rule per class of layer: how its input and the slope of its output give each row's gradient of its parameters.

    rule(layer, x, slope) -> {name of a parameter: its gradient for each row}

x is the layer's input and slope the gradient of the loss with respect to its output, both with the rows of the batch
first: (B, …). Several inputs or outputs come as a tuple. A gradient is given as an `Outer` (a sum of outer products
over the tokens of a row, never formed) or as a tensor (B, *shape of the parameter). A rule runs without autograd.

`register(LayerClass, rule)` adds one of your own; it takes over all trainable parameters in the layer, those of layers
inside it too, so a block whose weights are read by one fused kernel can have a rule as a whole.

What no rule covers is run again for each row (`hbo.rewards.norms.calls`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from transformers.pytorch_utils import Conv1D

from hbo.compat import FSDPModule
from hbo.rewards.norms.outer_products import Outer, widened

Found = dict[str, "Outer | Tensor"]
Rule = Callable[[Any, Any, Any], Found]


class Unruly(Exception):  # noqa: N818 - a finding, caught by the caller, not an error
    """A layer that doesn't do what its rule supposes."""


def register(kind: type[nn.Module], rule: Rule) -> None:
    """Measures all layers of exactly this class by `rule`, which replaces any earlier rule.

    Args:
        kind: A class of layers. Its subclasses keep their own rules.
        rule: Called after the layer's backward with the layer, its input (B, …) and the gradient of the loss with
            respect to its output (B, …). Returns each row's gradient of each parameter, by the parameter's name.

    Example:
        >>> class Scale(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.weight = nn.Parameter(torch.ones(8))
        ...
        ...     def forward(self, x):
        ...         return x * self.weight
        >>> register(Scale, lambda layer, x, slope: {"weight": (x * slope).sum(1)})
    """
    _OWN[kind] = rule


def linear(layer: nn.Module, x: Tensor, slope: Tensor) -> Found:
    """`nn.Linear`: weight (out, in)."""
    left = slope.flatten(1, -2)
    found: Found = {"weight": Outer(left, x.flatten(1, -2))}
    if layer.bias is not None:
        found["bias"] = left.sum(1, dtype=torch.float32)
    return found


def conv1d(layer: nn.Module, x: Tensor, slope: Tensor) -> Found:
    """GPT-2's Conv1D: a linear layer with weight (in, out)."""
    right = slope.flatten(1, -2)
    return {"weight": Outer(x.flatten(1, -2), right), "bias": right.sum(1, dtype=torch.float32)}


def embedding(layer: nn.Embedding, x: Tensor, slope: Tensor) -> Found:
    """`nn.Embedding`, and subclasses that scale what they look up (Gemma's).

    Raises:
        Unruly: It isn't looked up by token ids.
    """
    if x.is_floating_point() or x.dim() < 2:
        raise Unruly("isn't looked up by token ids")
    if type(layer).forward is not nn.Embedding.forward:
        # With a weight of ones it gives the factor. Of one column: all would take more memory than the slopes.
        ones = torch.ones(layer.num_embeddings, 1, dtype=torch.float64, device=x.device)
        slope = slope * without_hooks(layer, {"weight": ones}, x).to(slope.dtype)
    if layer.padding_idx is not None:  # torch gives this token's vector no gradient
        slope = slope * (x != layer.padding_idx)[..., None]
    return {"weight": Outer(x.flatten(1), slope.flatten(1, -2))}


def layer_norm(layer: nn.LayerNorm, x: Tensor, slope: Tensor) -> Found:
    """`nn.LayerNorm` over the last dimension.

    Raises:
        Unruly: It is over more than one.
    """
    if len(layer.normalized_shape) != 1:
        raise Unruly("normalises over several dimensions")
    tokens = tuple(range(1, x.dim() - 1))
    normal = nn.functional.layer_norm(widened(x), layer.normalized_shape, eps=layer.eps)
    found: Found = {"weight": (widened(slope) * normal).sum(tokens)}
    if layer.bias is not None:
        found["bias"] = widened(slope).sum(tokens)
    return found


def rms_norm(layer: nn.Module, x: Tensor, slope: Tensor) -> Found:
    """Any RMSNorm: its output is linear in its weight, entry by entry, so two weights tell by what it is multiplied.

    As `vectors`, in a third of its time on the host. That a layer of this name is one shows when the model is settled.
    """
    weight = layer.get_parameter("weight").detach()
    one, none = (without_hooks(layer, {"weight": of(weight)}, x) for of in (torch.ones_like, torch.zeros_like))
    return {"weight": ((widened(one) - widened(none)) * widened(slope)).sum(tuple(range(1, x.dim() - 1)))}


def vectors(layer: nn.Module, x: Tensor, slope: Tensor) -> Found:
    """Any layer of one input that owns vectors only (the RMSNorms of all models): differentiated row by row, at once.

    Raises:
        Unruly: torch can't do that with what the layer does.
    """
    own = {name: p.detach() for name, p in layer.named_parameters(recurse=False)}

    def of_row(x_row: Tensor, slope_row: Tensor) -> dict[str, Tensor]:
        out, pull = vjp(lambda weights: without_hooks(layer, weights, x_row[None]), own)  # type: ignore[misc]
        found: dict[str, Tensor] = pull(slope_row[None].to(out.dtype))[0]
        return found

    try:
        found = vmap(of_row)(x, slope)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise Unruly(f"can't be differentiated row by row ({str(error).splitlines()[0]})") from error
    return {name: widened(gradient) for name, gradient in found.items()}


def without_hooks(layer: nn.Module, parameters: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
    """What the layer gives with these parameters, its own hooks left alone."""
    return functional_call(_Bare(layer), {f"layer.{name}": p for name, p in parameters.items()}, args, kwargs)


class _Bare(nn.Module):
    """Calls the layer's `forward` itself, so that none of its hooks hears of it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.forward(*args, **kwargs)


# Matched by the function that is its forward, so that a subclass which changes what a layer does
# has no rule of its parent, and one that FSDP or PEFT makes of it has.
_RULES: dict[Callable[..., Any], Rule] = {
    nn.Linear.forward: linear,
    Conv1D.forward: conv1d,
    nn.LayerNorm.forward: layer_norm,
}
_OWN: dict[type[nn.Module], Rule] = {}
"""Rules of the user's own, by class: a table of code like the one above, nothing that a run has learned."""


def own_rule(layer: nn.Module) -> Rule | None:
    """The rule that `register` was given for the layer's class, or for that of which FSDP made a class of its own."""
    kind = type(layer)
    return _OWN.get(kind.__mro__[2] if FSDPModule in kind.__bases__ else kind)


def rule_for(layer: nn.Module, names: list[str]) -> Rule | None:
    """The rule of a layer for these parameters of its own, judged by its class; None: it has to be run again.

    A layer whose `forward` was replaced has none, unless by accelerate, whose hooks move what it is given.
    """
    if found := own_rule(layer):
        return found
    if "forward" in vars(layer) and not hasattr(layer, "_hf_hook"):
        return None
    known = set(names) <= {"weight", "bias"}
    if isinstance(layer, nn.Embedding):
        return embedding if known and layer.max_norm is None and not layer.scale_grad_by_freq else None
    if known and (rule := _RULES.get(type(layer).forward)):
        return rule
    # What is left are layers of vectors: a matrix would be too large to be differentiated for all rows at once.
    has_layers = next(layer.children(), None) is not None
    if has_layers or any(len(whole_shape(layer.get_parameter(name))) > 1 for name in names):
        return None
    return rms_norm if names == ["weight"] and type(layer).__name__.endswith("RMSNorm") else vectors


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """A parameter's shape, also while DeepSpeed ZeRO-3 holds it in parts."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape
