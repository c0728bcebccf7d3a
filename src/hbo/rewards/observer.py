"""Each row's gradient norm and loss, read off the forward and backward pass of a training batch.

The same rules as in `hbo.rewards.norms`, but the pass is the trainer's own: nothing of it is changed, and its loss is
whatever multiple of each row's mean loss the trainer makes of it (tokens of the whole step, accumulation, a gradient
scaler). That multiple is found by comparing the slope that arrives at the last hidden state with the slope that the
row's own mean loss has there; if the two don't point the same way, the loss is another one and nothing is reported.

Letters: B batch, T tokens, N target tokens of the whole batch, H hidden size.
"""

from __future__ import annotations

import time
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hbo.compat import body_of
from hbo.rewards.norms.facts import Facts, Uncovered
from hbo.rewards.norms.head import HeadPass
from hbo.rewards.norms.outer_products import widened
from hbo.rewards.norms.recorder import Owner, Recorder
from hbo.scoring.devices import Autocast
from hbo.scoring.head import head_of
from hbo.scoring.targets import Targets


class Observer(Recorder):
    """Watches one training batch. To be entered before its forward; says what it saw when its backward is over.

    Args:
        model: The model in training, its wrappers taken off.
        inner: The transformers model inside it.
        targets: Of the batch.
        facts: What is known of the model.
        norms: Whether gradient norms are wanted; without them nothing but the head is watched.

    Raises:
        Uncovered: The pass can't be read.
    """

    def __init__(
        self, model: nn.Module, inner: PreTrainedModel, targets: Targets, facts: Facts, *, norms: bool = True
    ) -> None:
        head = head_of(inner) if facts.sliced_head else None
        if head is None:
            raise Uncovered(type(inner).__name__, "has no head that is one plain linear layer")
        super().__init__(model, targets, facts, head.layer)
        self.seconds = 0.0
        self._inner, self._head_found = inner, head
        self._work = HeadPass.of(inner, head, targets, self.of_head if norms else {})
        if not norms:
            self.owners = {}
        elif any(owner.again for owner in self.owners.values()) and _drops_out(model):
            raise Uncovered(type(inner).__name__, "has blocks that must be run again, and dropout in them")
        self._hidden: tuple[Tensor, Autocast] | None = None
        self._multiple_B: Tensor | None = None
        self._fits: Tensor | None = None
        self._norm_B: Tensor | None = None
        self._why = ""

    def __enter__(self) -> Self:
        super().__enter__()
        self._handles.append(body_of(self._inner).register_forward_hook(self._take_hidden))
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
        for parameter in self._work.own.values():
            self.expect(parameter)

        def at_head(slope: Tensor) -> None:
            queue = torch.autograd.Variable._execution_engine.queue_callback  # type: ignore[attr-defined]
            queue(self._backward_done)
            with torch.no_grad():
                self._safely(lambda: self._head(seen, slope.detach(), precision))

        self._handles.append(hidden.register_hook(at_head))  # type: ignore[no-untyped-call]

    def finish(self) -> tuple[Tensor, Tensor]:
        """Each row's gradient norm (B,) and mean target loss (B,) in nats, NaN for a row without a target.

        Raises:
            Uncovered: The pass can't be read; says why.
        """
        self.__exit__(None, None, None)
        if self._fits is not None and not bool(self._fits):
            self._why = self._why or "the loss isn't the mean of its target tokens' losses"
        if self._why or self._work.loss_N is None or self._norm_B is None:
            raise Uncovered(type(self._inner).__name__, self._why or "got no gradient at its last hidden state")
        loss_B = self.targets.means(self._work.loss_N)
        return torch.where(torch.isfinite(loss_B), self._norm_B, torch.nan), loss_B

    def _backward_done(self) -> None:
        """Called by autograd when all of this backward has run; lets go of every tensor of the pass."""

        def add_up() -> None:
            assert self._multiple_B is not None
            self._norm_B = (self.total().sqrt() / self._multiple_B.abs()).float()

        if self._multiple_B is not None and not self._why:
            self._safely(add_up)
        self.__exit__(None, None, None)
        self._uses.clear()

    def _safely(self, work: Any) -> None:
        """Does some work in the trainer's own pass, which must never break it."""
        began = time.perf_counter()
        try:
            if not self._why:
                work()
        except Exception as finding:
            self._why = str(finding).splitlines()[0]
        self.seconds += time.perf_counter() - began

    def _hook(self, owner: Owner) -> Any:
        inner = super()._hook(owner)
        tapped: list[bool] = []  # of each call of the forward

        def after(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            if self.forward_is_over:
                # Computed again under checkpointing, which has to go as the first time, whatever happened since; what
                # is raised here belongs to torch, which ends so what it computes again.
                return inner(layer, args, kwargs, output) if any(tapped) else None
            found: list[Any] = [None]
            self._safely(lambda: found.append(inner(layer, args, kwargs, output)))
            tapped.append(found[-1] is not None or not torch.is_grad_enabled())  # reentrant: only then noted
            return found[-1]

        return after

    def _receiver(self, owner: Owner, call: Any) -> Any:
        inner = super()._receiver(owner, call)
        return lambda inputs, slopes: self._safely(lambda: inner(inputs, slopes))

    def _take_hidden(self, base: nn.Module, args: Any, output: Any) -> None:
        hidden = getattr(output, "last_hidden_state", None)
        if torch.is_grad_enabled() and not self.forward_is_over and isinstance(hidden, Tensor):
            # As it is here: around the whole model the trainer's own precision context is left already.
            self._hidden = hidden, Autocast.now(hidden.device)

    def _head(self, hidden_BTH: Tensor, slope_BTH: Tensor, precision: Autocast) -> None:
        """The head's own gradient, every row's loss, and what multiple of it the trainer's loss is."""
        with precision.again():
            self._work(self.targets.at(hidden_BTH))
        assert self._work.slope_NH is not None
        own_NH, slope_NH = widened(self._work.slope_NH), widened(self.targets.at(slope_BTH))
        across_B = self.targets.sums((slope_NH * own_NH).sum(1))
        along_B = self.targets.sums(own_NH.square().sum(1))
        self._multiple_B = multiple_B = torch.where(along_B > 0, across_B / along_B, 1)
        rest = (slope_NH - multiple_B[self.targets.row_N, None] * own_NH).norm()
        tolerance = 0.1 if precision.enabled or hidden_BTH.itemsize < 4 else 1e-2
        # Slopes overflow now and then under a gradient scaler; such a batch gives no finite norm and isn't counted.
        self._fits = (rest <= tolerance * slope_NH.norm()) | ~slope_NH.isfinite().all()
        for parameter, use in self._work.uses(multiple_B):
            self.collect(parameter, use)


def _drops_out(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
