"""One architecture measured in all its variants, each against autograd one row at a time: a record for each."""

from __future__ import annotations

import statistics
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hbo.rewards.gradients import per_example_gradient_norms
from support.tiny_adapters import OF_LLAMA
from support.tiny_architectures import batch_for, build, reference, variants

EXACT = 1e-4
"""The largest relative error of a norm that counts as rounding."""


@dataclass
class Way:
    """How a model was measured."""

    norm_B: Tensor
    batched: bool
    why: str = ""
    """For which parameter, or why, the rows were measured one at a time."""
    rerun: dict[str, str] = field(default_factory=dict)
    """Parameter → the module that runs again for each row, in a batched measurement."""


def measured(model: nn.Module, batch: dict[str, Tensor]) -> Way:
    """The norms as hbo measures them, and how it did."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            from hbo.rewards.gradients import settle
        except ImportError:
            norm_B = per_example_gradient_norms(model, batch)
            slow = next((str(w.message) for w in caught if "one row at a time" in str(w.message)), "")
            return Way(norm_B, not slow, slow.partition(": ")[2])
        facts = settle(model, batch)
        return Way(per_example_gradient_norms(model, batch), facts.batched, facts.why or "", dict(facts.rerun))


def records(name: str, rounds: int = 1) -> list[dict[str, Any]]:
    """What came of each variant of an architecture; a variant that can't be built is named in its record."""
    try:
        ways = variants(name) + (OF_LLAMA if name == "llama" else [])
    except Exception as error:
        return [{"architecture": name, "variant": "full", "outcome": "not built", "why": said(error)}]
    return [{"architecture": name, "variant": variant, **record(name, variant, rounds)} for variant in ways]


def record(name: str, variant: str, rounds: int = 1) -> dict[str, Any]:
    """What came of one variant: fast, rows (one at a time), wrong, raises, not built or not trainable."""
    try:
        model = build(name, variant)
    except Exception as error:
        return {"outcome": "not built", "why": said(error)}
    batch = batch_for(model)
    began = time.perf_counter()
    try:
        truth = reference(model, batch)
    except Exception as error:
        return {"outcome": "not trainable", "why": said(error)}
    facts: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "reference_ms": round(1000 * (time.perf_counter() - began), 1),
        "own_loss_gap": truth.own_loss_gap,
        "padding_gap": truth.padding_gap,
    }
    try:
        way = measured(model, batch)
        taken = []
        for _ in range(rounds):
            began = time.perf_counter()
            again_B = per_example_gradient_norms(model, batch)
            taken.append(time.perf_counter() - began)
        facts["ms"] = round(1000 * statistics.median(taken), 1)
    except Exception as error:
        return {"outcome": "raises", "why": said(error), **facts}
    gap = max(truth.error_of(way.norm_B), truth.error_of(again_B))
    outcome = "wrong" if not gap <= EXACT else "fast" if way.batched else "rows"
    return {"outcome": outcome, "error": gap, "why": way.why, "rerun": way.rerun, **facts}


def said(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def in_child(name: str, rounds: int, pipe: Any) -> None:
    """Sends the records of an architecture through a pipe; what the libraries say on the way is left unsaid."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    pipe.send(records(name, rounds))
