"""Whether training helped, in sentences: losses and right answers on held-out rows, before and after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hbo.folder.metrics import Metrics
from hbo.folder.run import Run
from hbo.report.chance import is_chance
from hbo.report.words import Show

UNCHANGED = 0.0005
"""Share of a loss below which a change isn't one: it would be written as 0.0%."""
_NAMED = 6


class Answers(NamedTuple):
    """How many of the same rows were answered right, before and after training."""

    before: int
    after: int
    rows: int

    @property
    def told(self) -> str:
        """The counts in words, with what chance has to say."""
        if self.before == self.after:
            return f"{self.after} of {self.rows} as before"
        chance = "within chance" if is_chance(*self) else "more than chance"
        return f"{self.before} → {self.after} of {self.rows} ({chance})"


def answers_of(metrics: Metrics) -> dict[str, Answers]:
    """Dataset → its counts, where it was asked the same rows before and after."""
    found = {}
    for name, after in metrics.right.items():
        before = metrics.right_before.get(name)
        if before and before.n == after.n > 0:
            found[name] = Answers(before.right, after.right, after.n)
    return found


def loss_change(before: float, after: float) -> str:
    """`lower`, `higher` or `unchanged`, of a loss."""
    if abs(after - before) <= UNCHANGED * abs(before):
        return "unchanged"
    return "lower" if after < before else "higher"


def helped(run: Run, show: Show = str) -> list[str]:
    """What the run came to against no training, and what wasn't measured and how to have it."""
    metrics = run.metrics
    if metrics is None or not metrics.after:
        return [not_measured(run)]
    return [_losses(metrics, show), *_answers(metrics, show)]


def not_measured(run: Run) -> str:
    """Why there is no held-out loss, and how to have it."""
    if run.metrics is not None:
        return (
            "No held-out rows were measured. To have some, set mixture.eval_fraction: those rows are never trained on."
        )
    if run.config_text:
        return "The held-out loss is measured when the run ends."
    return (
        "Held-out loss wasn't measured: hbo doesn't measure it in your own training script. `hbo train` does: it sets "
        "rows aside (mixture.eval_fraction) and measures them before and after training. In your script, give the "
        "trainer eval_dataset={dataset: rows} and eval_strategy; it then logs the loss of each dataset."
    )


def _losses(metrics: Metrics, show: Show) -> str:
    both = [name for name in metrics.after if name in metrics.before]
    if not both:
        after = sum(score.nll for score in metrics.after.values()) / len(metrics.after)
        return f"The mean held-out loss (macro NLL) after training is {after:.2f}; it wasn't measured before."
    before, after = (sum(scores[name].nll for name in both) / len(both) for scores in (metrics.before, metrics.after))
    ways = {name: loss_change(metrics.before[name].nll, metrics.after[name].nll) for name in both}
    counts = {way: [show(name) for name in both if ways[name] == way] for way in ("lower", "higher", "unchanged")}
    parts = [f"{way} in {_which(names, len(both))}" for way, names in counts.items() if names]
    change = f" ({100 * (after / before - 1):+.1f}%)".replace("-", "−") if before > 0 else ""
    mean = f"on average it went from {before:.2f} to {after:.2f}{change}"
    if loss_change(before, after) == "unchanged":
        mean = f"on average unchanged at {after:.2f}"
    return f"The held-out loss is {_listed(parts)}; {mean}."


def _which(names: Sequence[str], total: int) -> str:
    if len(names) == total:
        return {1: names[0], 2: "both datasets"}.get(total, f"all {total} datasets")
    named = f" ({_listed(names)})" if len(names) <= 3 else ""
    return f"{len(names)} of {total} datasets{named}"


def _answers(metrics: Metrics, show: Show) -> list[str]:
    found = answers_of(metrics)
    if not found:
        return []
    ranked = sorted(found, key=lambda name: abs(found[name].after - found[name].before), reverse=True)
    parts = [f"{show(name)} {found[name].told}" for name in ranked[:_NAMED]]
    if left := len(ranked) - _NAMED:
        parts[_NAMED:] = [f"{left} more changed less"] if left > 0 else []
    together = Answers(*(sum(counts) for counts in zip(*found.values(), strict=True)))
    whole = f"; together {together.told}" if len(found) > 1 else ""
    return [f"Right answers: {', '.join(parts)}{whole}."]


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
