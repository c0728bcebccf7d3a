"""What a run came to, in a few sentences for the terminal: what moved, what it cost, whether it helped, what next."""

from __future__ import annotations

from hbo.folder.metrics import Metrics
from hbo.folder.paths import MODEL_FOLDER, REPORT
from hbo.folder.run import Run
from hbo.report.next_steps import compared_runs, comparison_of
from hbo.report.series import series_of
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
        ['Shares', 'Cost', 'Training', 'Balancing', 'Model', 'Report']
    """
    metrics = run.metrics or Metrics()
    series = series_of(run.lines, run.drawn_KL)
    return [
        ("Shares", " ".join(moved(run, series)), ""),
        ("Cost", cost(metrics, len(run.lines) - 1), ""),
        ("Training", against_no_training(metrics), ""),
        ("Balancing", _whether(run, metrics), comparison_of(run.folder, run.method)),
        ("Model", str(run.folder / MODEL_FOLDER), ""),
        ("Report", str(run.folder / REPORT), ""),
    ]


def cost(metrics: Metrics, updates: int) -> str:
    """What the updates took of the time.

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
        return f"{told}; balancing took nothing of it"
    added = spent / max(metrics.train_seconds - spent, 1e-9)
    return f"{told}; {counted(updates, 'update')} took {_short(spent)} of it, which adds {added:.1%} to the steps"


def against_no_training(metrics: Metrics) -> str:
    """How the model does on held-out rows beside the untuned one.

    Example:
        >>> score = {"nll": 2.0, "perplexity": 7.4, "n": 9}
        >>> before = {"a": score, "b": score}
        >>> found = {"eval": {"a": score | {"nll": 1.0}, "b": score}, "eval_before": before, "macro_nll": 1.5}
        >>> against_no_training(Metrics.checked(found, "metrics.json"))
        'against no training, the held-out loss fell in 1 of 2 datasets, by 25.0% on average (2.000 to 1.500)'
    """
    both = [name for name in metrics.after if name in metrics.before]
    if not both:
        return "held-out loss was not measured before and after training (mixture.eval_fraction sets rows aside)"
    fell = sum(metrics.after[name].nll < metrics.before[name].nll for name in both)
    before, after = (sum(scores[name].nll for name in both) / len(both) for scores in (metrics.before, metrics.after))
    where = f"all {len(both)} datasets" if fell == len(both) > 1 else f"{fell} of {counted(len(both), 'dataset')}"
    way = "by" if after < before else "but rose by" if after > before else "and did not change:"
    change = abs(after / before - 1) if before else 0.0
    told = f"against no training, the held-out loss fell in {where}, {way} {change:.1%} on average"
    return f"{told} ({before:.3f} to {after:.3f}){_answered(metrics)}"


def _answered(metrics: Metrics) -> str:
    both = [name for name in metrics.right if name in metrics.right_before]
    rows = sum(metrics.right[name].n for name in both)
    if not rows:
        return ""
    before, after = (
        round(sum(found[name].value * found[name].n for name in both))
        for found in (metrics.right_before, metrics.right)
    )
    return f"; of {rows} answers {after} are right, {before} without training"


def _whether(run: Run, metrics: Metrics) -> str:
    runs = compared_runs(run.method)
    took = f", about {duration(runs * metrics.train_seconds)} of training" if metrics.train_seconds else ""
    other = "Whether balancing helped" if not run.is_static else "Whether balancing would have helped"
    return f"{other} is another question. {runs} runs answer it{took}:"


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)
