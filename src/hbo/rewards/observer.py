"""Each row's gradient norm and loss, read off the forward and backward pass of a training batch.

The same rules as in `hbo.rewards.ghost`, but the pass is the trainer's own: nothing of it is changed, and its loss is
whatever multiple of each row's mean loss the trainer makes of it (tokens of the whole step, accumulation, a gradient
scaler). That multiple is found by comparing the slope that arrives at the last hidden state with the slope that the
row's own mean loss has there; if the two don't point the same way, the loss is another one and nothing is reported.

Under gradient checkpointing the inputs of layers are taken from the second forward, so that none is kept alive longer.

Letters: B batch, T tokens, N target tokens of the whole batch, H hidden size, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from hbo.rewards.ghost import Recorder, Uncovered
from hbo.rewards.outer import Outer, widened
from hbo.rewards.rules import Unruly
from hbo.rewards.targets import Targets, losses_and_slope


class Observer(Recorder):
    """Watches one training batch. To be entered before its forward; says what it saw when its backward is over.

    Args:
        model: The model in training.
        inner: The transformers model inside it.
        targets: Of the batch.
        norms: Whether gradient norms are wanted; without them nothing but the head is watched.
    """

    def __init__(self, model: nn.Module, inner: PreTrainedModel, targets: Targets, *, norms: bool = True) -> None:
        super().__init__(model, targets)
        self.seconds = 0.0
        self._inner, self._output_layer = inner, linear_head(inner)
        self.layers.pop(self._output_layer, None)  # handled together with the last hidden state
        if not norms:
            self.layers, self.names = {}, {}
        # Their forward runs twice, the second time during the backward.
        self._twice = {
            layer
            for block in model.modules()
            if isinstance(block, GradientCheckpointingLayer) and block.gradient_checkpointing
            for layer in block.modules()
        }
        self._input_of: dict[nn.Module, Tensor] = {}
        self._slope_of: dict[nn.Module, Tensor] = {}
        self._first_seen: set[nn.Module] = set()
        self._hidden: tuple[Tensor, torch.autocast] | None = None
        self._found: tuple[Tensor, Tensor] | None = None  # losses (B,) and multiples (B,)
        self._norm_B: Tensor | None = None
        self._why = ""

    def __enter__(self) -> Self:
        super().__enter__()
        self._handles.append(self._inner.base_model.register_forward_hook(self._take_hidden))
        return self

    def forward_done(self) -> None:
        """To be called between forward and backward."""
        self.forward_is_over = True
        if self._hidden is None or not self._hidden[0].requires_grad:
            self._why = self._why or "its last hidden state isn't the output of its base model"
            return
        hidden, precision = self._hidden
        self._hidden = None  # a tensor that a hook of its own refers to would never be freed
        seen = hidden.detach()
        self._expected.update(p for p in self._output_layer.parameters(recurse=False) if p in self.names)

        def at_head(slope: Tensor) -> None:
            queue = torch.autograd.Variable._execution_engine.queue_callback  # type: ignore[attr-defined]
            queue(self._backward_done)
            self._head(seen, slope, precision)

        self._handles.append(hidden.register_hook(self._timed(at_head)))  # type: ignore[no-untyped-call]

    def finish(self) -> tuple[Tensor, Tensor]:
        """Each row's gradient norm (B,) and mean target loss (B,) in nats, NaN for a row without a target.

        Raises:
            Uncovered: The pass can't be read; says why.
        """
        self.__exit__(None, None, None)
        if self._slope_of:
            self._why = self._why or "has a layer that was not computed a second time under gradient checkpointing"
        if self._why or self._found is None or self._norm_B is None:
            raise Uncovered(type(self._inner).__name__, self._why or "got no gradient at its last hidden state")
        loss_B, _ = self._found
        return torch.where(torch.isfinite(loss_B), self._norm_B, torch.nan), loss_B

    def _backward_done(self) -> None:
        """Called by autograd when all of this backward has run; lets go of every tensor of the pass."""
        began = time.perf_counter()
        if self._found is not None and not self._why:
            self._norm_B = (self.square_norms().clamp(min=0).sqrt() / self._found[1].abs()).float()
        self.__exit__(None, None, None)
        self._uses.clear()
        self._vectors.clear()
        self._input_of.clear()
        self.seconds += time.perf_counter() - began

    def _timed(self, work: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
        """`work` in a hook of the trainer's backward, which it must never break."""

        @torch.no_grad()
        def run(slope: Tensor) -> None:
            began = time.perf_counter()
            try:
                if not self._why:
                    work(slope.detach())
            except (Uncovered, Unruly) as finding:
                self._why = str(finding)
            self.seconds += time.perf_counter() - began

        return run

    def _take_hidden(self, base: nn.Module, args: Any, output: Any) -> None:
        hidden = getattr(output, "last_hidden_state", None)
        if torch.is_grad_enabled() and not self.forward_is_over and isinstance(hidden, Tensor):
            device = hidden.device.type
            # As it is here: around the whole model the trainer's own precision context is left already.
            dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
            self._hidden = hidden, torch.autocast(device, dtype=dtype, enabled=enabled)

    def _starts(self, layer: nn.Module, args: Any) -> None:
        if self.forward_is_over and layer in self._first_seen and args:
            x = args[0].detach()
            if layer in self._slope_of:
                self._timed(lambda slope: self._learn(layer, x, slope))(self._slope_of.pop(layer))
            else:
                self._input_of[layer] = x

    def _ends(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor | None:
        if self._why or not torch.is_grad_enabled() or (self.forward_is_over and layer in self._first_seen):
            return None
        values = [*args, *kwargs.values()]
        if len(values) != 1 or not isinstance(values[0], Tensor) or not isinstance(output, Tensor):
            self._why = f"a {type(layer).__name__} doesn't turn one tensor into one tensor"
            return None
        x, out = self._one_per_row(values[0].detach(), output)
        if not out.requires_grad or not self._laid_out_by_row(layer, x, out):
            self._why = f"a {type(layer).__name__} was given {tuple(x.shape)}, not one entry for each row and token"
            return None
        self._expected.update(self.layers[layer].values())
        if layer in self._twice and not self.forward_is_over:
            if layer in self._first_seen:
                self._why = f"a {type(layer).__name__} runs several times under gradient checkpointing"
                return None
            self._first_seen.add(layer)
            self._handles.append(out.register_hook(self._timed(lambda slope: self._later(layer, slope))))
            return None
        version = x._version

        def work(slope: Tensor) -> None:
            if x._version != version:
                raise Unruly("a layer has its input overwritten later")
            self._learn(layer, x, slope)

        self._handles.append(out.register_hook(self._timed(work)))
        return None if out is output else out

    def _later(self, layer: nn.Module, slope: Tensor) -> None:
        """The slope of a layer's output, whose input may only come now, with the second forward."""
        if layer in self._input_of:
            self._learn(layer, self._input_of.pop(layer), slope)
        else:
            self._slope_of[layer] = slope

    def _learn(self, layer: nn.Module, x: Tensor, slope: Tensor) -> None:
        # Without the output, which only serves to check that the rule fits the layer: whoever watches has probed.
        found = self.rules[layer](layer, x, None, None)(slope)
        for name, parameter in self.layers[layer].items():
            self._collect(parameter, found[name])

    def _head(self, hidden_BTH: Tensor, slope_BTH: Tensor, precision: torch.autocast) -> None:
        """The head's own gradient, every row's loss, and what multiple of it the trainer's loss is."""
        head, before_BT = self._output_layer, self.targets.before_BT
        hidden_NH, slope_NH = hidden_BTH.detach()[before_BT], widened(slope_BTH[before_BT])
        with precision:
            logits_NV = functional.linear(hidden_NH, head.weight, head.bias)
        cap = getattr(self._inner.config.get_text_config(), "final_logit_softcapping", None)
        if cap:
            logits_NV = (logits_NV / cap).tanh() * cap
        loss_B, own_NV = losses_and_slope(logits_NV, self.targets)
        if cap:
            own_NV = own_NV * (1 - (logits_NV / cap).square())
        with precision:
            own_NH = widened(own_NV.to(logits_NV.dtype) @ head.weight.to(logits_NV.dtype))
        row_N = torch.arange(len(loss_B), device=loss_B.device).repeat_interleave(
            torch.tensor(self.targets.counts, device=loss_B.device)
        )
        nothing = torch.zeros_like(loss_B)
        across = nothing.index_add(0, row_N, (slope_NH * own_NH).sum(1))
        along = nothing.index_add(0, row_N, own_NH.square().sum(1))
        multiple_B = torch.where(along > 0, across / along, 1)
        rest = (slope_NH - multiple_B[row_N, None] * own_NH).norm()
        tolerance = 1e-2 if logits_NV.dtype == hidden_NH.dtype == torch.float32 else 0.1
        # Slopes overflow now and then under a gradient scaler; such a batch gives no finite norm and isn't counted.
        if slope_NH.isfinite().all() and not rest <= tolerance * slope_NH.norm():
            raise Unruly("the loss isn't the mean of its target tokens' losses")
        scaled_NV = widened(own_NV) * multiple_B[row_N, None]
        for name, parameter in head.named_parameters(recurse=False):
            if parameter in self.names and name == "weight":
                self._collect(parameter, Outer(scaled_NV, hidden_NH, self.targets.counts))
            elif parameter in self.names:
                nothing_BV = scaled_NV.new_zeros(len(loss_B), scaled_NV.shape[1])
                self._collect(parameter, nothing_BV.index_add(0, row_N, scaled_NV))
        self._found = loss_B, multiple_B


def linear_head(inner: PreTrainedModel) -> nn.Linear:
    """The model's output layer.

    Raises:
        Uncovered: It isn't a plain linear layer.
    """
    head = inner.get_output_embeddings()
    if not isinstance(head, nn.Linear) or type(head).forward is not nn.Linear.forward or "forward" in vars(head):
        raise Uncovered(type(inner).__name__, f"has a {type(head).__name__} as its head, not a plain linear layer")
    return head
