"""Finds out, once and before training, how a model's gradient norms are to be measured.

A few rows are measured in one batched pass and by plain autograd, parameter by parameter. Where a layer's rule doesn't
hold, the layer, or the block around it, is run again for each row instead; what then still differs is measured one row
at a time. So no assumption that a rule makes needs a check of its own: a kernel that reads a layer's weight from
outside of that layer, rows that meet, an output changed in place, all show here as another number.

R rows are compared.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hbo.data.tokens import IGNORED
from hbo.errors import RewardError
from hbo.rewards.norms.facts import Facts, Uncovered
from hbo.rewards.norms.layers import whole_shape
from hbo.rewards.norms.left_as_found import left_as_found, resharded
from hbo.rewards.norms.recorder import outer_module
from hbo.rewards.norms.squares import batched_pass, squares_of_row
from hbo.scoring.devices import device_of, is_partitioned
from hbo.scoring.head import head_of, target_logits, token_losses
from hbo.scoring.room import lacks_memory
from hbo.scoring.targets import Targets
from hbo.text import first_line

_ROWS = 3  # compared; an odd number, which no model has as many heads of
_TRIES = 10
_LARGEST_BLOCK = 0.7  # of all parameters; running more than that again is no better than one row at a time
# Relative, of squared norms; and the share of the whole below which a parameter's gradient is rounding alone.
_FINE = {"each": 5e-3, "share": 1e-6, "loss": 1e-3}
_COARSE = {"each": 0.25, "share": 2e-3, "loss": 5e-2}


def facts_of(model: nn.Module, batch: Mapping[str, Tensor], agree: Callable[[Any], Any]) -> Facts:
    """What is known of the model from a few rows of the batch, in the precision that it runs in.

    All processes of a sharded model must give the same rows.

    Args:
        model: As `hbo.rewards.gradients.unwrapped` gives it.
        batch: `input_ids`, `attention_mask`, `labels`, each (B, T); the shortest rows with a target are taken.
        agree: What all processes are to take for the found, so that each tries the same next.

    Raises:
        RewardError: The model doesn't return one logit vector per token, or no row has a target.
    """
    targets = Targets.of(_few(batch), device_of(model))
    with left_as_found(model), torch.inference_mode(False), torch.enable_grad():
        expected, losses = zip(*(squares_of_row(model, targets, row) for row in range(_ROWS)), strict=True)
        facts = Facts(sliced_head=head_of(model) is not None)
        alone_R, is_coarse = _alone(model, targets)
        tolerance = _COARSE if is_coarse else _FINE
        gap_R, allowed = (alone_R - torch.stack(losses)).abs(), tolerance["loss"]
        is_same = bool((gap_R <= allowed * alone_R.abs() + allowed).all())
        rows_meet = "" if is_same else f"{type(model).__name__} gives a row alone something else than within its batch"
        if why := agree(rows_meet):
            return replace(facts, batched=False, why=why)
        first: dict[str, str] = {}  # what the numbers showed
        name, why = "", ""
        for _ in range(_TRIES):
            problems = agree(_problems(model, targets, facts, expected, tolerance))
            if not problems:
                _warn(facts, first)
                return facts
            if not why:
                name, (why, _) = next(iter(problems.items()))
            first |= {name: why for name, (why, by_number) in problems.items() if by_number and name not in first}
            if "" in problems or sum(_widen(model, facts, each) for each in problems) < len(problems):
                break
            _join(model, facts)
    return Facts(batched=False, why=f"'{name}' {why}" if name else why, sliced_head=facts.sliced_head)


def _problems(
    model: nn.Module,
    targets: Targets,
    facts: Facts,
    expected: Sequence[Mapping[str, Tensor]],
    tolerance: Mapping[str, float],
) -> dict[str, tuple[str, bool]]:
    """Name of a parameter → what is wrong with its gradients, and whether only the numbers say so."""
    resharded(model)
    trained = {p: name for name, p in model.named_parameters() if p.requires_grad}
    found, squares = None, {}
    try:
        found = batched_pass(model, targets, facts, learns=True)
        squares = found.recorder.squares()
    except Uncovered as finding:
        return {finding.name: (finding.why, False)}
    except RewardError:
        if not facts.sliced_head:
            raise
    except Exception as error:  # a model may raise anything when a layer's output isn't quite what it was
        if lacks_memory(error):
            raise
        return {"": (f"the batched pass fails ({type(error).__name__}: {first_line(error)[:200]})", False)}
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    if facts.sliced_head and (found is None or not bool(found.head_is_known)):
        facts.sliced_head = False
        return _problems(model, targets, facts, expected, tolerance)
    assert found is not None
    if found.recorder.problems:
        return {name: (why, False) for name, why in found.recorder.problems.items()}
    return {name: (why, True) for name, why in _differences(trained, squares, expected, tolerance).items()}


def _differences(
    trained: Mapping[nn.Parameter, str],
    squares: Mapping[nn.Parameter, Tensor],
    expected: Sequence[Mapping[str, Tensor]],
    tolerance: Mapping[str, float],
) -> dict[str, str]:
    """The parameters whose squared norms aren't those of autograd, and by how much."""
    device = next(iter(expected[0].values())).device if expected[0] else torch.device("cpu")
    none, none_R = torch.zeros((), device=device), torch.zeros(len(expected), device=device)
    wanted = [torch.stack([row.get(name, none).to(device) for row in expected]) for name in trained.values()]
    found = [squares.get(parameter, none_R).to(device) for parameter in trained]
    wanted_PR, found_PR = torch.stack(wanted).double().cpu(), torch.stack(found).double().cpu()
    gap_PR = (found_PR - wanted_PR).abs()
    rounding_R = tolerance["share"] * wanted_PR.sum(0)
    allowed_PR = tolerance["each"] * wanted_PR + rounding_R
    wrong_P = ~(gap_PR <= allowed_PR).all(1)  # NaN is wrong too
    # In a model of many layers each parameter is a small share of the whole; together those of one kind are not.
    places_of = defaultdict(list)
    for place, name in enumerate(trained.values()):
        places_of[_kind(name)].append(place)
    for places in places_of.values():
        found_R, wanted_R = found_PR[places].sum(0), wanted_PR[places].sum(0)
        if not bool(((found_R - wanted_R).abs() <= tolerance["each"] * wanted_R + rounding_R).all()):
            wrong_P[places] |= ~(gap_PR[places] <= tolerance["each"] * wanted_PR[places]).all(1)
    result = {}
    for place, name in enumerate(trained.values()):
        if wrong_P[place]:
            row = int((gap_PR[place] / allowed_PR[place].clamp(min=1e-300)).nan_to_num(torch.inf).argmax())
            one, other = found_PR[place, row].sqrt(), wanted_PR[place, row].sqrt()
            result[name] = (
                f"is used outside of its own layer (its gradient has norm {other:.3g}, what passes the layer gives "
                f"{one:.3g})"
            )
    return result


def _kind(name: str) -> str:
    """What a parameter's name has in common with those of the same parameter in other layers."""
    return re.sub(r"\d+", "0", name)


@torch.no_grad()
def _alone(model: nn.Module, targets: Targets) -> tuple[Tensor, bool]:
    """Each row's loss (R,) in a batch of its own, and whether anything runs in half precision, as under autocast."""
    types, losses = {parameter.dtype for parameter in model.parameters()}, []
    handles = [
        module.register_forward_hook(lambda _, __, out: types.add(out.dtype) if isinstance(out, Tensor) else None)
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        for row in range(_ROWS):
            single = row_alone(targets, row)
            losses.append(token_losses(target_logits(model, single, use_cache=False), single.label_N).mean())
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(losses), not types.isdisjoint({torch.bfloat16, torch.float16})


def row_alone(targets: Targets, row: int) -> Targets:
    """One row of a batch, without the padding at its end."""
    T = targets.shape[1]
    mask = targets.inputs.get("attention_mask")
    stop = T if mask is None else int(mask[row].nonzero().amax()) + 1
    inputs = {name: each[row % len(each)][None, :stop] for name, each in targets.inputs.items()}
    start, count = sum(targets.counts[:row]), targets.counts[row]
    own = slice(start, start + count)
    index_N = targets.index_N[own] - row * T
    return Targets(inputs, (1, stop), index_N, targets.label_N[own], torch.zeros_like(index_N), [count])


def _few(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The shortest rows that have a target; with other tokens once more if they are fewer than are compared."""
    B, T = batch["labels"].shape
    counts = Targets.of(batch, torch.device("cpu")).counts
    mask = batch.get("attention_mask")
    length_B = mask.sum(1).cpu() if mask is not None and mask.dim() == 2 else torch.full((B,), T)
    order = [row for row in length_B.argsort(stable=True).tolist() if counts[row]]
    if not order:
        raise RewardError("no row has a target token, so there is no gradient to measure")
    rows = (order * _ROWS)[:_ROWS]
    chosen = {name: each[rows] if len(each) == B else each for name, each in batch.items() if each is not None}
    for place in range(len(order), _ROWS):  # rows that are alike wouldn't show that they meet
        chosen["input_ids"][place] = chosen["input_ids"][place].roll(place)
    if mask is not None and mask.dim() == 2:  # a column that no row needs goes
        kept = chosen["attention_mask"].any(0).cpu()
        chosen = {name: each[..., kept] if each.shape[-1] == len(kept) else each for name, each in chosen.items()}
    return with_other_sizes(chosen)


def with_other_sizes(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batch, one token longer if it has as many rows as tokens, so that one can't be taken for the other."""
    batch = {name: each for name, each in batch.items() if each is not None}
    B, T = batch["labels"].shape
    if B != T:
        return batch
    return {
        name: nn.functional.pad(each, (0, 1), value=IGNORED if name == "labels" else 0) if each.shape[-1] == T else each
        for name, each in batch.items()
    }


def _widen(model: nn.Module, facts: Facts, name: str) -> bool:
    """Has the parameter's layer run again for each row, or the block around what is run again; False: there is none."""
    home = facts.rerun.get(name)
    wider = name.rpartition(".")[0] if home is None else outer_module(model, home)
    if not wider:
        return False
    block = model.get_submodule(wider)
    if _size(block) > _LARGEST_BLOCK * _size(model):
        return False
    if is_partitioned(model) and any(_size(child) for child in block.children()):
        return False  # DeepSpeed's hooks on the layers inside would look for what it knows of their parameters
    facts.rerun[name] = wider
    return True


def _size(module: nn.Module) -> int:
    return sum(whole_shape(parameter).numel() for parameter in module.parameters())


def _join(model: nn.Module, facts: Facts) -> None:
    """Has the same parameter of all experts of a block run again with the block, if that of one of them is.

    Some got no token, and some as many as there are rows or tokens, which looks like a layer of all rows.
    """
    blocks = defaultdict(set)
    for name, block in facts.rerun.items():
        blocks[_kind(name)].add(block)
    for name, parameter in model.named_parameters():
        around = [block for block in blocks.get(_kind(name), ()) if name.startswith(f"{block}.")]
        if parameter.requires_grad and around:
            facts.rerun[name] = min(around, key=len)


def _warn(facts: Facts, by_number: Mapping[str, str]) -> None:
    if not by_number:
        return
    name, why = next(iter(by_number.items()))
    more = f" (and {len(by_number) - 1} more)" if len(by_number) > 1 else ""
    warnings.warn(
        f"'{name}'{more} {why}; it is measured by running {facts.rerun[name]} again, one row at a time, which is "
        "slower",
        stacklevel=4,
    )
