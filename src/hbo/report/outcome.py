"""What a run came to, in a few sentences for the terminal: what moved, what it cost, whether it helped, what next."""

from __future__ import annotations

import shlex

from hbo.config.methods import UPDATE_EVERY
from hbo.folder.metrics import Metrics
from hbo.folder.paths import MODEL_FOLDER, REPORT
from hbo.folder.run import Run
from hbo.report.helped import helped
from hbo.report.markup import in_percent
from hbo.report.sections import PAPER_BATCH, overhead_in_the_paper
from hbo.report.series import series_of
from hbo.report.standing import whether_balancing_helped
from hbo.report.words import moved
from hbo.text import counted, duration

Part = tuple[str, str, str]
"""A heading, a sentence or more, and a command that stands on a line of its own, if any."""


def outcome(run: Run) -> list[Part]:
    """The parts in their order; `run` has ended.

    Example:
        >>> from hbo.folder.ledger import Line
        >>> from pathlib import Path
        >>> line = Line(0, 0, (1.0,), ((1.0,),), None, None, None, None, ((0,),), 0.0, 0)
        >>> run = Run(Path("runs/a"), ("math",), (line,), {}, "", Metrics(), None)
        >>> [heading for heading, _, _ in outcome(run)]
        ['Shares', 'Cost', 'Training', 'Balancing', 'Model', 'Report', 'Next']
    """
    metrics = run.metrics or Metrics()
    series = series_of(run.lines, run.drawn_KL)
    watch = shlex.join(["hbo", "watch", str(run.folder), "--once"])
    return [
        ("Shares", " ".join(moved(run, series)), ""),
        ("Cost", cost(metrics, len(run.lines) - 1) + _in_the_paper(run), ""),
        ("Training", "Against no training: " + " ".join(helped(run)), ""),
        ("Balancing", *whether_balancing_helped(run)),
        ("Model", str(run.folder / MODEL_FOLDER), ""),
        ("Report", str(run.folder / REPORT), ""),
        ("Next", "open the report in a browser; without one, this shows the run in the terminal:", watch),
    ]


def cost(metrics: Metrics, updates: int) -> str:
    """How much of the training time the updates took.

    Example:
        >>> cost(Metrics(steps=100, train_seconds=110.0, balance_seconds=10.0), 5)
        'training took 1 min 50 s for 100 steps; 5 updates took 10 s of it, which adds 10.0% to the steps'
    """
    if metrics.train_seconds is None:
        return "not measured"
    steps = f" for {counted(metrics.steps, 'step')}" if metrics.steps is not None else ""
    told = f"training took {duration(metrics.train_seconds)}{steps}"
    spent = metrics.balance_seconds or 0.0
    if not updates or not spent:
        return f"{told}; balancing took none of it"
    added = spent / max(metrics.train_seconds - spent, 1e-9)
    return f"{told}; {counted(updates, 'update')} took {_short(spent)} of it, which adds {added:.1%} to the steps"


def _in_the_paper(run: Run) -> str:
    share = overhead_in_the_paper(run)
    if share is None:
        return ""
    often = f"{UPDATE_EVERY} steps of {PAPER_BATCH} rows"
    return f"; at the paper's interval, an update every {often}, it would add about {in_percent(share)}"


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)
