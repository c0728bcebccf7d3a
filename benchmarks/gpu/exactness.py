"""Stage 6: a killed and resumed run has the bits of one that wasn't, probing leaves no trace, workers change no bit.

20M parameters, 8 steps of 8 rows of 60 to 200 tokens, an update after every second. On an H200 the four runs, and the
one that is killed beside them in a process of its own, took 65 s, nearly all of it in Python.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from hbo import HBOConfig
from hbo.config.balance import ActorConfig
from hbo.folder.ledger import read_records
from hbo.folder.paths import LEDGER
from hbo.rewards.probe import Probe
from hbo.training.groups import groups_of

from .clock import free_memory
from .machine import device
from .report import Report
from .rows import PAD, batch_of, random_rows
from .settings import Settings
from .shapes import SHAPES, llama
from .trainers import arguments, autocast, trainer_of

_LAG = 4  # what two workers need, so that both runs may have it
_DROPOUT = 0.1


@dataclass(frozen=True)
class Sizes:
    """How large."""

    shape: str
    rows: int
    shortest: int
    longest: int
    steps: int
    killed_at: int


SIZES = {
    "full": Sizes("20m", 256, 60, 200, 8, 7),
    "cpu": Sizes("20m", 64, 20, 60, 12, 8),
    "toy": Sizes("toy", 64, 6, 16, 12, 8),
}


def run(settings: Settings, seconds: float, report: Report) -> None:
    """Fills the report."""
    scratch, sizes = Path(settings.scratch) / "exactness", SIZES[settings.size]
    scratch.mkdir(parents=True, exist_ok=True)
    _deterministic()
    killed = _start_killed(settings, scratch)
    try:
        rows = _rows(sizes)
        whole = _trained(sizes, rows, scratch / "whole")
        again = _trained(sizes, rows, scratch / "again")
        report.add("one run twice", {"same_bits": _same(whole, again), "gap": _gap(whole, again)})
        report.holds("torch is deterministic here", _same(whole, again))
        workers = _trained(sizes, rows, scratch / "workers", workers=2)
        report.add("0 and 2 loader workers", {"same_bits": _same(whole, workers), "gap": _gap(whole, workers)})
        report.holds("0 and 2 loader workers are the same run", _same(whole, workers))
        _no_trace(sizes, rows, report)
        code = killed.wait()
        if code != -signal.SIGKILL:
            raise RuntimeError(f"the run that was to be killed ended with {code}; see {scratch / 'killed.log'}")
        resumed = _trained(sizes, rows, scratch / "killed", resume=True)
        found = {"same_bits": _same(whole, resumed), "gap": _gap(whole, resumed), "killed_in_step": sizes.killed_at}
        report.add("killed and resumed", found)
        report.holds("killed and resumed is the same run", _same(whole, resumed))
    finally:
        killed.kill()
        killed.wait()


def _deterministic() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def _rows(sizes: Sizes) -> Any:
    lengths = np.linspace(sizes.shortest, sizes.longest, sizes.rows).astype(int).tolist()
    return random_rows(lengths, SHAPES[sizes.shape].vocabulary, levels=2)


@dataclass(frozen=True)
class _Run:
    weights: dict[str, Tensor]
    ledger: list[dict[str, Any]]


def _trained(
    sizes: Sizes, rows: Any, folder: Path, *, workers: int = 0, resume: bool = False, killed_at: int | None = None
) -> _Run:
    """Weights and ledger of a run whose policy moves and whose model drops out."""
    model = llama(sizes.shape, dropout=_DROPOUT)
    args = arguments(
        folder,
        max_steps=sizes.steps,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        save_strategy="steps",
        save_steps=4,
        dataloader_num_workers=workers,
    )
    config = HBOConfig(update_every=2, probes=8, probe_pool=4, update_lag=_LAG, actor=ActorConfig(learning_rate=3e-3))
    trainer, _, _ = trainer_of(model, args, rows, config, seed=0)
    if killed_at is not None:
        trainer.add_callback(_KilledAt(killed_at))
    trainer.train(resume_from_checkpoint=resume)
    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    lines = [{**line, "seconds": 0} for _, line in read_records(folder / LEDGER)]
    free_memory()
    return _Run(weights, lines)


class _KilledAt(TrainerCallback):
    """Ends the process in the middle of a step as nothing else can."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step - 1:
            os.kill(os.getpid(), signal.SIGKILL)


def _start_killed(settings: Settings, scratch: Path) -> subprocess.Popen[bytes]:
    code = f"from {__name__} import killed_run; import sys; killed_run(sys.argv[1], sys.argv[2])"
    with (scratch / "killed.log").open("wb") as log:
        command = [sys.executable, "-c", code, settings.size, str(scratch / "killed")]
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def killed_run(size: str, folder: str) -> None:
    """A run that kills itself."""
    _deterministic()
    sizes = SIZES[size]
    _trained(sizes, _rows(sizes), Path(folder), killed_at=sizes.killed_at)


def _same(left: _Run, right: _Run) -> bool:
    return left.ledger == right.ledger and all(torch.equal(left.weights[n], right.weights[n]) for n in left.weights)


def _gap(left: _Run, right: _Run) -> float:
    return max(float((left.weights[name] - right.weights[name]).abs().max()) for name in left.weights)


def _no_trace(sizes: Sizes, rows: Any, report: Report) -> None:
    """Gradients, weights, random streams and the next step's loss are the same with and without a measurement."""
    model = llama(sizes.shape, dropout=_DROPOUT).train()
    probe = Probe(rows, groups_of(rows), HBOConfig(probes=8, probe_pool=4), pad_token_id=PAD)
    batch = batch_of(rows, range(4))

    def backward() -> Tensor:
        with autocast():
            loss: Tensor = model(**batch).loss
        loss.backward()
        return loss.detach()

    backward()
    before = _state(model)
    with autocast():
        probe.measure_reference(model)
        probe.measure(model, step=2)
    after = _state(model)
    left = [name for name in before if not torch.equal(before[name], after[name])]
    torch.manual_seed(1)
    measured = backward()
    torch.manual_seed(1)
    other = llama(sizes.shape, dropout=_DROPOUT, seed=0).train()
    other.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    model = other
    is_same = bool(torch.equal(backward(), measured)) and model.training
    report.add("a measurement", {"changed": left[:5], "next_loss_is_the_same": is_same})
    report.holds("probing leaves no trace", not left and is_same)


def _state(model: nn.Module) -> dict[str, Tensor]:
    found = {name: value.detach().clone() for name, value in model.state_dict().items()}
    found |= {f"{name}.grad": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    found["random stream"] = torch.get_rng_state()
    found["modes"] = torch.tensor([module.training for module in model.modules()])
    if device().type == "cuda":
        found["random stream of the GPU"] = torch.cuda.get_rng_state()
    return found
