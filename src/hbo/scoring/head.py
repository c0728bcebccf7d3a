"""The head, a slice of the targets at a time: logits of all targets of a batch are never in memory at once.

With a vocabulary of 128,000 words the logits of 16,384 targets take 4 GiB in bf16, more than anything else. A model's
forward runs whole, but its head is given one position; what it would have been given at the targets is passed through
it slice by slice, inside that very call, in which a sharded weight is whole.

That needs a head which is one linear layer, with nothing but a factor and a soft cap between it and the logits. Whether
it is so is seen at that one position, where the model's own logits are at hand.

Letters: B batch, T tokens, N target tokens of the whole batch, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hbo.errors import RewardError
from hbo.scoring.targets import Targets

# What models do to their logits: names in their configuration, and how the number is meant.
_FACTORS: dict[str, Callable[[float], float]] = {
    "logit_scale": float,
    "output_multiplier": float,
    "logits_scaling": lambda divisor: 1 / divisor,
}
_CAPS = ("final_logit_softcapping", "softcap", "logits_soft_cap", "output_logit_soft_cap")
_SLICE, _CPU_SLICE = 2**26, 2**20  # logits at once: 256 MB in fp32; on a CPU 4 MB, which stay in the caches


@dataclass(frozen=True)
class Head:
    """A head that may be passed by hidden states alone, and what becomes of its logits."""

    layer: nn.Linear
    factor: float = 1.0
    """Logits are multiplied by it."""
    cap: float = 0.0
    """Then they are softly capped at it; 0: they aren't."""

    def raw(self, hidden_NH: Tensor) -> Tensor:
        """The layer's own output (N, V) for these hidden states, its hooks left alone."""
        return functional.linear(hidden_NH, self.layer.weight, self.layer.bias)

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """The logits (N, V) of these hidden states, as the model would return them."""
        return self.after(self.raw(hidden_NH))

    def after(self, logits_NV: Tensor) -> Tensor:
        """What the model makes of the layer's output."""
        if self.factor != 1.0:
            logits_NV = logits_NV * self.factor
        return (logits_NV / self.cap).tanh() * self.cap if self.cap else logits_NV


def output_layer(model: nn.Module) -> nn.Module | None:
    """The layer that gives the logits; None if the model names none."""
    get = getattr(model, "get_output_embeddings", None)
    return get() if get else None


def head_of(model: nn.Module) -> Head | None:
    """The model's head, as far as its class and configuration tell; None if it is no plain linear layer."""
    layer = output_layer(model)
    if not isinstance(layer, nn.Linear) or type(layer).forward is not nn.Linear.forward or layer.weight.is_meta:
        return None
    if "forward" in vars(layer) and not hasattr(layer, "_hf_hook"):  # accelerate's only moves what it is given
        return None
    config: Any = model.config
    text = config.get_text_config()
    factor = 1.0
    for name, meaning in _FACTORS.items():
        if isinstance(found := getattr(text, name, None), int | float) and found:
            factor *= meaning(found)
    cap = next((found for name in _CAPS if isinstance(found := getattr(text, name, None), int | float)), 0.0)
    return Head(layer, factor, float(cap))


def through_head(
    model: nn.Module, head: Head, targets: Targets, work: Callable[[Tensor], None], **inputs: Any
) -> Tensor:
    """Runs the model; whether its logits are what `head` takes them for ().

    Args:
        model: Is called once; its head is given one position only.
        head: Its head.
        targets: Of the batch.
        work: Called in place of the head, inside its call, where a sharded weight is whole, with what the head would
            have seen at the targets (N, H).
        inputs: Further arguments of the model.

    Raises:
        RewardError: The model doesn't call its head once, on one vector per token.
    """
    B, T = targets.shape
    given: list[Tensor] = []
    raw: list[Tensor] = []
    is_over = False

    def first(_: nn.Module, args: tuple[Any, ...]) -> None:
        given[:] = args[:1]

    def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal is_over
        if is_over or not args or args[0].dim() != 3 or len(args[0]) != B or args[0].shape[1] < T:
            raise RewardError(f"{type(model).__name__} doesn't give its head one vector per token, once")
        is_over = True
        # As it came, if no hook of the head made it another (FSDP its precision): DeepSpeed's would take a backward
        # through what it gives the head for one of the head, which has none.
        came = given[0] if given and given[0].dtype == args[0].dtype else args[0]
        work(targets.at(came.to(head.layer.weight.device)))
        return (args[0][:1, :1].detach(), *args[1:])

    def after(_: nn.Module, __: Any, output: Tensor) -> None:
        raw.append(output.detach())

    # The first hook runs before those of FSDP, DeepSpeed and accelerate, the second after them, so that the weight is
    # whole when `work` runs; the third sees the output before any of theirs changes it.
    handles = [
        head.layer.register_forward_pre_hook(first, prepend=True),
        head.layer.register_forward_pre_hook(before),
        head.layer.register_forward_hook(after, prepend=True),
    ]
    try:
        logits = model(**targets.inputs, **inputs).logits.detach()
    finally:
        for handle in handles:
            handle.remove()
    if not raw:
        raise RewardError(f"{type(model).__name__} doesn't call its head")
    return _gives(head, raw[0], logits.float())


def _gives(head: Head, raw: Tensor, logits: Tensor) -> Tensor:
    """Whether the model makes of its layer's output what `head` does (); nothing waits for the device."""
    expected = head.after(raw).float().to(logits.device)
    if logits.numel() != expected.numel():
        return torch.zeros((), dtype=torch.bool, device=logits.device)
    # Both are made of the very same output. A cap of which nothing is known hardly changes the logits of a new model.
    tolerance = 1e-5 if raw.dtype == torch.float32 else 2e-2
    is_known: Tensor = (expected.flatten() - logits.flatten()).abs().amax() <= tolerance * logits.abs().amax()
    return is_known


@contextmanager
def only_targets(model: nn.Module, targets: Targets) -> Iterator[None]:
    """While entered, the model's head, whatever it is, sees the N target positions only."""
    layer = output_layer(model)
    B, T = targets.shape

    def select(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not args or args[0].dim() != 3 or len(args[0]) != B or args[0].shape[1] < T:
            return None  # a head that is given something else keeps it; `of_targets` says what becomes of it
        return (targets.at(args[0]), *args[1:])

    handle = layer.register_forward_pre_hook(select) if isinstance(layer, nn.Module) else None
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


def target_logits(model: nn.Module, targets: Targets, **inputs: Any) -> Tensor:
    """The logits (N, V) that predict the targets, all at once; for any head.

    Raises:
        RewardError: The model doesn't return one logit vector per position.
    """
    with only_targets(model, targets):
        logits: Tensor = model(**targets.inputs, **inputs).logits
    return of_targets(model, logits, targets)


def of_targets(model: nn.Module, logits: Tensor, targets: Targets) -> Tensor:
    """Those (N, V) of a model's logits, of all positions or of the targets alone, that predict targets.

    Raises:
        RewardError: They are neither.
    """
    B, T = targets.shape
    if logits.dim() == 3 and len(logits) == B and logits.shape[1] >= T:
        logits = targets.at(logits)
    if logits.shape[:-1] != targets.label_N.shape:
        raise RewardError(
            f"{type(model).__name__} returns logits of shape {tuple(logits.shape)} for a batch of shape {(B, T)}; "
            "rewards need a causal language model with one logit vector per token"
        )
    return logits


def targets_at_once(logits_NV: Tensor | None = None, *, words: int = 0, device: torch.device | None = None) -> int:
    """How many targets' logits should be worked on at once in fp32: told by the logits, or by V and their device."""
    if logits_NV is not None:
        words, device = logits_NV.shape[-1], logits_NV.device
    return max(1, (_CPU_SLICE if device is None or device.type == "cpu" else _SLICE) // max(1, words))


def token_losses(logits_NV: Tensor, label_N: Tensor) -> Tensor:
    """The loss (N,) of each target in nats, its softmax in fp32 and a slice at a time."""
    step = targets_at_once(logits_NV)
    slices = zip(logits_NV.split(step), label_N.to(logits_NV.device).split(step), strict=True)
    return torch.cat([functional.cross_entropy(logits.float(), label, reduction="none") for logits, label in slices])
