"""Each row's squared gradient norm from one forward and one backward of the whole batch ("ghost norms").

A row's loss depends on that row alone, so after the backward of the sum of all row losses the slope of any layer's
output holds each row's own slopes. With the layer's input they give the row's gradient norm:

    linear layers, embeddings    norms of sums of outer products (`hbo.rewards.outer`)
    biases                       slopes summed over tokens
    layers of vectors (norms)    the layer itself, differentiated row by row

No weight gradient is ever computed: during the pass no parameter requires one, and the graph starts at the output of
the first layer that owns a trainable parameter. What these rules don't cover raises Uncovered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from hbo.rewards.last_mlp import last_mlp
from hbo.rewards.opening import Opening
from hbo.rewards.outer import Beside, Gram, Grams, Outer, square_norms
from hbo.rewards.padding import unmasked
from hbo.rewards.rules import Gradients, Unruly, conv1d, linear, rule_for, tokens, vectors
from hbo.rewards.targets import HeadOnTargets, Targets, losses_and_slope, target_logits

# Layers each of whose parameters was used once in the last pass that was measured.
_used_once: WeakSet[nn.Module] = WeakSet()


class Uncovered(Exception):  # noqa: N818 - a finding, caught by the caller, not an error
    """A trainable parameter that no batched rule covers."""

    def __init__(self, parameter: str, why: str) -> None:
        super().__init__(f"'{parameter}' {why}")
        self.parameter = parameter


def batched_square_norms(model: nn.Module, targets: Targets) -> tuple[Tensor, Tensor]:
    """Each row's squared gradient norm (B,) and mean target loss (B,).

    To be called inside `left_as_found`, which gives the parameters their `requires_grad` back.

    Raises:
        Uncovered: A parameter is used in a way for which there is no rule.
        RewardError: The model doesn't return one logit vector per token.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "ds_id" in vars(parameter):  # its shape is empty between the layers' own hooks
            raise Uncovered(name, "is partitioned by DeepSpeed ZeRO-3")
    targets = unmasked(model, targets)
    recorder = Recorder(model, targets, last_mlp(model, targets))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    torch.clear_autocast_cache()  # type: ignore[no-untyped-call]  # may hold copies of weights that require gradients
    with recorder:
        with recorder.head, Watch(recorder):
            logits_NV = target_logits(model, targets)
        recorder.forward_is_over = True
        loss_B, slope_NV = losses_and_slope(logits_NV.detach(), targets)
        if logits_NV.requires_grad:
            with torch.autocast(logits_NV.device.type, enabled=False):
                logits_NV.backward(slope_NV)  # type: ignore[no-untyped-call]
    return recorder.square_norms(), loss_B


class Recorder:
    """Hooks on every layer that owns a trainable parameter, and the norms of what they saw."""

    def __init__(self, model: nn.Module, targets: Targets, last_mlp: nn.Module | None = None) -> None:
        self.names = {p: name for name, p in model.named_parameters() if p.requires_grad}
        self.layers = {
            layer: own
            for layer in model.modules()
            if (own := {name: p for name, p in layer.named_parameters(recurse=False) if p.requires_grad})
        }
        self.rules = {layer: rule_for(layer) or self._refuse(layer, "has no rule") for layer in self.layers}
        self.targets = targets
        self.head = HeadOnTargets(model, targets.before_BT, last_mlp)
        self.running: list[nn.Module] = []
        self.forward_is_over = False
        self._expected: Counter[nn.Parameter] = Counter()
        self._uses: defaultdict[nn.Parameter, list[Outer]] = defaultdict(list)
        self._vectors: dict[nn.Parameter, Tensor] = {}
        self._grams = Grams()
        self._square_B = torch.zeros(len(targets.counts), device=targets.before_BT.device)
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for layer in self.layers:
            self._handles.append(layer.register_forward_pre_hook(self._starts))
            # The first of all hooks, so that the output is the layer's own and not one that another hook changed.
            self._handles.append(layer.register_forward_hook(self._ends, with_kwargs=True, prepend=True))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    def square_norms(self) -> Tensor:
        """‖gradient‖² of each row (B,), once the backward is over.

        Raises:
            Nothing.
        """
        _used_once.update(
            layer for layer, own in self.layers.items() if all(self._expected[p] == 1 for p in own.values())
        )
        parts = [square_norms(uses) for uses in self._uses.values()]
        parts += [gradient.square().flatten(1).sum(1) for gradient in self._vectors.values()]
        return torch.stack([self._square_B, *parts]).sum(0)

    def _refuse(self, layer: nn.Module, why: str) -> Any:
        parameter = next(iter(self.layers[layer].values()))
        raise Uncovered(self.names[parameter], f"belongs to a {type(layer).__name__}, which {why}")

    def _starts(self, layer: nn.Module, args: Any) -> None:
        self.running.append(layer)

    def _ends(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor | None:
        """Notes the input, asks for the slope of the output, and starts the graph if it hasn't begun yet."""
        with torch._C.DisableTorchFunction():  # a mode is asked even for a tensor's shape
            return self._note(layer, args, kwargs, output)

    def _note(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor | None:
        if self.forward_is_over:
            self._refuse(layer, "runs again during the backward")
        if not torch.is_grad_enabled():
            self.running.pop()
            return None
        values = [*args, *kwargs.values()]
        if len(values) != 1 or not isinstance(values[0], Tensor) or not isinstance(output, Tensor):
            self._refuse(layer, "doesn't turn one tensor into one tensor")
        x, out = self._one_per_row(values[0].detach(), output)
        if not self._laid_out_by_row(layer, x, out):
            self._refuse(layer, f"was given {tuple(x.shape)}, not one entry for each row and token")
        try:
            seen = self._least(layer, x, out)
            gradients = self.rules[layer](layer, seen, out.detach(), self.targets.counts if self.head.active else None)
        except Unruly as finding:
            self._refuse(layer, str(finding))
        self.running.pop()
        if not out.requires_grad:
            # A clone, because a leaf can't be changed in place, as a model may do with a layer's output.
            out = out.detach().requires_grad_().clone()
        self._expected.update(self.layers[layer].values())
        # Removed again at the end: a hook left in the graph keeps the recorder, and with it every activation, alive.
        self._handles.append(out.register_hook(self._receiver(layer, seen, gradients)))  # type: ignore[no-untyped-call]
        return out

    def _one_per_row(self, x: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """Position embeddings are looked up once for all rows; from here on, once for each."""
        B, T = self.targets.before_BT.shape
        shared = x.shape == (1, T) and out.shape[:2] == (1, T)
        return (x.expand(B, T), out.expand(B, *out.shape[1:])) if shared else (x, out)

    def _laid_out_by_row(self, layer: nn.Module, x: Tensor, out: Tensor) -> bool:
        B, T = self.targets.before_BT.shape
        if self.head.active:
            return x.dim() == 2 and len(x) == len(out) == len(self.targets.label_N)
        if self.rules[layer] is vectors:
            return x.shape == out.shape and len(x) == B and T in x.shape[1:-1]
        return x.shape[:2] == out.shape[:2] == (B, T)

    def _least(self, layer: nn.Module, x: Tensor, out: Tensor) -> Tensor | Gram:
        """What the layer's rule needs of its input. Taken now, while the caches hold it, it frees the input as well."""
        if layer not in _used_once or self.head.active or self.rules[layer] not in (linear, conv1d):
            return x
        return self._grams.least(tokens(x, None), out.shape[-1])

    def _receiver(self, layer: nn.Module, x: Tensor | Gram, gradients: Gradients) -> Callable[[Tensor], None]:
        version = x._version if isinstance(x, Tensor) else 0

        @torch.no_grad()
        def receive(slope: Tensor) -> None:
            if isinstance(x, Tensor) and x._version != version:
                self._refuse(layer, "has its input overwritten later")
            try:
                found = gradients(slope.detach())
            except Unruly as finding:
                self._refuse(layer, str(finding))
            for name, parameter in self.layers[layer].items():
                self._collect(parameter, found[name])

        return receive

    def _collect(self, parameter: nn.Parameter, gradient: Outer | Beside | Tensor) -> None:
        if isinstance(gradient, Beside):
            if self._expected[parameter] > 1:
                raise Uncovered(self.names[parameter], "is used several times, unlike before")
            self._square_B += gradient.gram.inner(gradient.factor)
        elif isinstance(gradient, Tensor):
            self._vectors[parameter] = self._vectors[parameter] + gradient if parameter in self._vectors else gradient
        elif self._expected[parameter] == 1:
            self._square_B += square_norms([gradient], self._grams)
        else:  # a weight used several times: the norm of the sum has to wait for all of it
            self._uses[parameter].append(gradient)


class Watch(TorchFunctionMode):
    """Sees every operation of the forward, and refuses a trainable parameter used outside of its own layer.

    A head written as `hidden @ embedding.weight.T`, say: hooks on layers would never hear of it. Since it is asked for
    every linear layer anyway, it is here as well that the rows' common opening is multiplied once.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._names = {id(parameter): name for parameter, name in recorder.names.items()}
        self._opening = Opening(recorder.targets.inputs["input_ids"])

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = self._opening.linear(*args, **kwargs) if func is nn.functional.linear else None
        if result is None:
            result = func(*args, **kwargs)
        for value in (*args, *kwargs.values()):
            for each in value if isinstance(value, (list, tuple)) else (value,):
                if id(each) in self._names and not self._inside_owner(each) and _has_tensor(result):
                    raise Uncovered(self._names[id(each)], "is used outside of its own layer")
        return result

    def _inside_owner(self, parameter: nn.Parameter) -> bool:
        running = self._recorder.running
        return bool(running) and any(parameter is own for own in self._recorder.layers[running[-1]].values())


def _has_tensor(result: Any) -> bool:
    """Looking up a parameter's shape or dtype is no use of it."""
    return isinstance(result, Tensor) or (
        isinstance(result, (list, tuple)) and any(isinstance(each, Tensor) for each in result)
    )
