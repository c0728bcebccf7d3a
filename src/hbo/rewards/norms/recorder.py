"""Hooks on every layer that owns a trainable parameter, and what they see of one forward and one backward.

A row's loss depends on that row alone, so after the backward of the sum of all row losses the slope of any layer's
output holds each row's own slopes. With the layer's input they give the row's gradient of the layer's parameters.

A parameter used once is squared as soon as its slopes arrive, so that inputs and slopes are let go. One used several
times (a tied embedding, a layer called twice) has the gradient of the sum of its uses, which waits for all of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hbo.rewards.norms.calls import Call, by_row, fits, flat_tensors, layout_of, rerun, tapped
from hbo.rewards.norms.facts import Facts, Uncovered
from hbo.rewards.norms.layers import Rule, Unruly, conv1d, linear, own_rule, rule_for
from hbo.rewards.norms.outer_products import Apart, LastGram, Squares, Use, norms_of_one, norms_of_sum
from hbo.scoring.devices import Autocast
from hbo.scoring.head import output_layer
from hbo.scoring.targets import Targets

_CONTAINERS = (nn.ParameterDict, nn.ParameterList, nn.ModuleDict, nn.ModuleList)


@dataclass(eq=False)
class Owner:
    """A layer or block, with those trainable parameters whose gradients are worked out at its calls."""

    layer: nn.Module
    place: str
    ruled: dict[str, nn.Parameter] = field(default_factory=dict)
    """Parameters that the rule gives the gradients of, by their names in the layer."""
    again: dict[str, nn.Parameter] = field(default_factory=dict)
    """Parameters for which the layer is run again, likewise."""
    rule: Rule | None = None

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All of them."""
        return {**self.ruled, **self.again}


def owners_of(model: nn.Module, facts: Facts) -> dict[nn.Module, Owner]:
    """Who works out the gradient of which trainable parameter: its own layer, unless a rule or `facts` say otherwise.

    A parameter that is registered in several layers has several owners.
    """
    modules = dict(model.named_modules())
    # Blocks with a rule of the user's own, the outer ones first.
    blocks = [place for place, module in modules.items() if own_rule(module) is not None]
    owners: dict[nn.Module, Owner] = {}
    places = defaultdict(list)
    for place, module in modules.items():
        for parameter in module.parameters(recurse=False):
            places[parameter].append(f"{place}." if place else "")
    for place, module in modules.items():
        for name, parameter in module.named_parameters(recurse=False):
            # A block that holds a parameter of a layer inside it under a name of its own (BERT's head) leaves it to it.
            inner = any(other != f"{place}." and other.startswith(f"{place}.") for other in places[parameter])
            if not parameter.requires_grad or inner:
                continue
            full = f"{place}.{name}" if place else name
            block = next((b for b in blocks if full.startswith(f"{b}.") or not b), None)
            home = block if block is not None else facts.rerun.get(full, _living(modules, place))
            owner = owners.setdefault(modules[home], Owner(modules[home], home))
            ruled = block is not None or (full not in facts.rerun and home == place)
            (owner.ruled if ruled else owner.again)[full[len(home) + 1 :] if home else full] = parameter
    for owner in owners.values():
        owner.rule = rule_for(owner.layer, list(owner.ruled)) if owner.ruled else None
        if owner.rule is None:
            owner.again, owner.ruled = owner.parameters, {}
    return owners


def _living(modules: dict[str, nn.Module], place: str) -> str:
    """The nearest module, from this one outwards, that is ever called."""
    while place and type(modules[place]) in _CONTAINERS:
        place = place.rpartition(".")[0]
    return place


def outer_module(model: nn.Module, place: str) -> str:
    """The nearest module outside of this one that is ever called; "" is the model itself."""
    return _living(dict(model.named_modules()), place.rpartition(".")[0])


class Recorder:
    """Watches one forward and one backward.

    Args:
        model: With its wrappers taken off.
        targets: Of the batch.
        facts: What is known of the model.
        head: The layer whose gradients are worked out elsewhere (`hbo.rewards.norms.head`); None: no layer.
        learns: Notes how rows lie in the calls of blocks.
    """

    def __init__(
        self, model: nn.Module, targets: Targets, facts: Facts, head: nn.Module | None = None, *, learns: bool = False
    ) -> None:
        self.targets, self.facts, self.learns = targets, facts, learns
        self.owners = owners_of(model, facts)
        of_head = self.owners.pop(head, None) if head is not None else None
        self.of_head = of_head.parameters if of_head else {}
        self._head_layer = None if head is not None else output_layer(model)
        self.problems: dict[str, str] = {}
        """Full name of a parameter → why it can't be measured in this way."""
        self.names = {p: name for name, p in model.named_parameters(remove_duplicate=True) if p.requires_grad}
        self.forward_is_over = False
        self.paused = False  # while a layer runs again, whose hooks have nothing to tell then
        self._in_head = False
        self._expected: Counter[nn.Parameter] = Counter()  # uses that the forward has shown
        self._arrived: Counter[nn.Parameter] = Counter()  # of these, in the backward
        self._uses: defaultdict[nn.Parameter, list[Use]] = defaultdict(list)
        self._square_B: dict[nn.Parameter, Tensor] = {}
        self._last = LastGram()
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for owner in self.owners.values():
            # The first of all hooks, so that the output is the layer's own and not one that another hook changed.
            self._handles.append(owner.layer.register_forward_hook(self._hook(owner), with_kwargs=True, prepend=True))
        if self._head_layer is not None:
            self._handles.append(self._head_layer.register_forward_pre_hook(partial(self._at_head, True)))
            self._handles.append(self._head_layer.register_forward_hook(partial(self._at_head, False)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def squares(self) -> dict[nn.Parameter, Tensor]:
        """‖gradient‖² of each row (B,) for each parameter that had a part, once the backward is over.

        Raises:
            Uncovered: A parameter is used in a way that is not known of it, or its uses don't add up to a gradient.
        """
        if self.problems and not self.learns:
            raise Uncovered(*next(iter(self.problems.items())))
        for parameter, uses in self._uses.items():
            try:
                self._square_B[parameter] = norms_of_sum(uses)
            except Apart as finding:
                raise Uncovered(self.names[parameter], str(finding)) from None
        self._uses.clear()
        return self._square_B

    def total(self) -> Tensor:
        """‖gradient‖² of each row (B,), on the targets' device."""
        parts = [square_B.to(self.targets.device) for square_B in self.squares().values()]
        nothing = torch.zeros(self.targets.shape[0], device=self.targets.device)
        return torch.stack([nothing, *parts]).sum(0)

    def expect(self, parameter: nn.Parameter) -> None:
        """One more use of a parameter is to come in the backward."""
        self._expected[parameter] += 1

    def collect(self, parameter: nn.Parameter, use: Use) -> None:
        """Takes in one use of a parameter."""
        self._arrived[parameter] += 1
        if self._expected[parameter] == 1 and self._arrived[parameter] == 1:
            self._square_B[parameter] = norms_of_one(use, self._last)
        elif parameter in self._square_B:  # as under reentrant checkpointing, which tells of no use beforehand
            raise Uncovered(self.names[parameter], "is used several times, unlike it seemed at first")
        else:
            self._uses[parameter].append(use)

    def _hook(self, owner: Owner) -> Any:
        def after(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            if self.paused or not torch.is_grad_enabled():
                return None
            try:
                return self._tapped(owner, args, kwargs, output)
            except Unruly as finding:
                self._refuse(owner, str(finding))
                return _passed_on(output)

        return after

    def _refuse(self, owner: Owner, why: str) -> None:
        """Keeps what stands in the way; the pass goes on to its end, as other processes wait at its layers."""
        for name in owner.parameters:
            full = f"{owner.place}.{name}" if owner.place else name
            self.problems.setdefault(full, f"belongs to a {type(owner.layer).__name__} that {why}")

    def _tapped(self, owner: Owner, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        values, nesting, slots = flat_tensors((args, kwargs))
        results, result_nesting, all_tensors = flat_tensors(output)
        # What doesn't depend on numbers has no slope: chosen experts, positions.
        outputs = [i for i in all_tensors if results[i].is_floating_point()]
        if not outputs or not slots:
            raise Unruly("doesn't turn tensors into tensors")
        # Where accelerate's hooks take them, on the layer's own device.
        inputs = [values[i].detach().to(results[outputs[0]].device) for i in slots]
        layouts = self._layouts(owner, dict(zip(slots, inputs, strict=True)), {i: results[i] for i in outputs})
        outs = [
            results[i].expand(self.targets.shape[0], *results[i].shape[1:]) if lay == "1" else results[i]
            for i, lay in zip(outputs, layouts[1], strict=True)
        ]
        precision = Autocast.now(outs[0].device)
        if owner.rule is not None:
            self._check_fit(owner, inputs, outs, layouts)
            if owner.rule in (linear, conv1d) and not owner.again:
                inputs = [precision.multiplied(x) for x in inputs]
        for slot in slots:
            values[slot] = None
        call = Call(nesting, values, slots, outputs, layouts, precision)
        if not self.forward_is_over:  # else the block is computed again, and each use is known already
            self._expected.update(owner.parameters.values())
        return tapped(results, result_nesting, outputs, outs, inputs, self._receiver(owner, call))

    def _check_fit(self, owner: Owner, inputs: list[Tensor], outs: list[Tensor], layouts: tuple[str, str]) -> None:
        """Refuses, before the backward, a call that the owner's rule isn't for."""
        if owner.rule is not own_rule(owner.layer):
            if (len(inputs), len(outs)) != (1, 1):
                raise Unruly("doesn't turn one tensor into one tensor")
            if outs[0].dim() < 3 and layouts[1] not in "tn":
                # Else an expert that happens to get as many tokens as the batch has rows would be taken for a layer
                # with a vector for each row.
                raise Unruly(f"gives {tuple(outs[0].shape)}, in which rows can't be told apart")
        for tensor, layout in zip((*inputs, *outs), "".join(layouts), strict=True) if not owner.again else ():
            by_row(tensor, layout, self.targets)

    def _layouts(self, owner: Owner, inputs: dict[int, Tensor], outputs: dict[int, Tensor]) -> tuple[str, str]:
        seen = self.facts.layouts.setdefault(owner.place, {}) if owner.again else {}
        found = {"in": "", "out": ""}
        for side, tensors in (("in", inputs), ("out", outputs)):
            for i, tensor in tensors.items():
                name = f"{side} {i}"
                letter = layout_of(tensor, self.targets, in_head=self._in_head, is_output=side == "out")
                if self.learns and owner.again:
                    seen[name] = letter
                # As seen when the model was settled, with sizes that are hard to mistake, if that can be: a batch may
                # have as many rows as attention has heads, and where no row is padded there may be no mask.
                known = seen.get(name, letter)
                found[side] += known if fits(tensor, known, self.targets) else letter
        return found["in"], found["out"]

    def _receiver(self, owner: Owner, call: Call) -> Any:
        def receive(inputs: tuple[Tensor, ...] | None, slopes: tuple[Tensor | None, ...]) -> None:
            try:
                if inputs is None:
                    raise Unruly("has its input overwritten later")
                if self.learns or not self.problems:  # else the pass is given up, and the rest would be for nothing
                    self._learn(owner, call, inputs, slopes)
            except Unruly as finding:
                self._refuse(owner, str(finding))
            except Uncovered as finding:
                self.problems.setdefault(finding.name, finding.why)

        return receive

    def _learn(self, owner: Owner, call: Call, inputs: tuple[Tensor, ...], slopes: tuple[Tensor | None, ...]) -> None:
        if owner.rule is not None:
            given = [by_row(x, lay, self.targets) for x, lay in zip(inputs, call.layouts[0], strict=True)]
            arrived = [
                None if slope is None else by_row(slope, lay, self.targets)
                for slope, lay in zip(slopes, call.layouts[1], strict=True)
            ]
            x, slope = (each[0] if len(each) == 1 else tuple(each) for each in (given, arrived))
            found = owner.rule(owner.layer, x, slope)
            for name, parameter in owner.ruled.items():
                if name not in found:
                    why = f"gets no gradient from the rule of {type(owner.layer).__name__}"
                    raise Uncovered(self.names[parameter], why)
                self.collect(parameter, found[name])
        self.paused = True
        try:
            # Of a parameter used once the norm is enough; several uses are added up first.
            for whole in (False, True):
                if names := [name for name, p in owner.again.items() if whole is (self._expected[p] != 1)]:
                    parts = rerun(owner.layer, names, call, inputs, slopes, self.targets, whole=whole)
                    for name, part in parts.items():
                        self.collect(owner.again[name], part if whole else Squares(part))
        finally:
            self.paused = False

    def _at_head(self, is_inside: bool, *_: Any) -> None:
        self._in_head = is_inside


def _passed_on(output: Any) -> Any:
    """The output, of which nothing is to be learned, so that the backward comes by here as in other processes."""
    results, nesting, tensors = flat_tensors(output)
    places = [i for i in tensors if results[i].is_floating_point()]
    if not places:
        return None
    return tapped(results, nesting, places, [results[i] for i in places], [], lambda *_: None)
