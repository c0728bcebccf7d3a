"""How much the mixture matters beside the noise of a seed: what a search found, in words and as a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from hbo.compare.optimum import Estimate
from hbo.compare.search import BEST, Found, SearchRun
from hbo.compare.statistics import Paired, mean_and_error, paired
from hbo.compare.table import ResultLine
from hbo.text import counted

WON = "Is there anything to win on this mixture?"
"""The question that all of it answers."""
_ENOUGH = 6  # fresh seeds from which what was measured says more than what was predicted


@dataclass(frozen=True)
class HeadroomPart:
    """What pages show of it.

    Attributes:
        sentences: What the mixture matters here.
        tables: Caption, head and rows of each.
    """

    sentences: list[str]
    tables: list[tuple[str, list[str], list[list[str]]]]


@dataclass(frozen=True)
class Headroom:
    """A search, as far as it is.

    Attributes:
        runs: Finished runs of the search that have a held-out loss of every dataset.
        planned: How many it has.
        found: What it found; None before its end.
        lacking: How many further runs are finished, but lack the loss of a dataset.
    """

    runs: Sequence[SearchRun]
    planned: int
    found: Found | None = None
    lacking: int = 0

    def sentences(self, rows: Sequence[ResultLine]) -> list[str]:
        """What the mixture matters here; `rows` are the finished runs of the comparison."""
        if self.found is None:
            done = f"{len(self.runs) + self.lacking} of {self.planned} runs are finished"
            lost = f"; {self.lacking} of them can't be judged, as the held-out loss of a dataset is missing"
            return [f"The search for the best static mixture goes on: {done}{lost if self.lacking else ''}."]
        losses = {label: _by_seed(rows, label, self.found.datasets) for label in (BEST, "uniform")}
        noise = seed_noise([*(run.mean for run in self.runs if run.mixture == "uniform"), *losses["uniform"].values()])
        return [_best(self.found), _predicted(self.found), *_judged(self.found, noise, losses), _quality(self.found)]

    def part(self, rows: Sequence[ResultLine]) -> HeadroomPart:
        """What pages show; `rows` are the finished runs of the comparison."""
        tables = [("Shares of the best static mixture", *self.shares()), ("Runs of the search", *self.mixtures())]
        return HeadroomPart(self.sentences(rows), [table for table in tables if table[2]])

    def shares(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows of a table: the best share of each dataset, its interval, how well its loss is predicted."""
        head = ["dataset", "best share", "95% interval", "loss off by, nats"]
        rows = [
            [name, _percent(each.share), f"{_percent(each.low)} to {_percent(each.high)}", f"{each.error:.4f}"]
            for name, each in (self.found.datasets.items() if self.found else ())
        ]
        return head, rows

    def mixtures(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows of a table: each run of the search, the best first."""
        names = list(self.runs[0].shares) if self.runs else []
        head = ["mixture", "seed", *names, "mean loss"]
        ordered = sorted(self.runs, key=lambda run: run.mean)
        return head, [
            [run.mixture, str(run.seed), *(_percent(run.shares[name]) for name in names), f"{run.mean:.4f}"]
            for run in ordered
        ]


@dataclass(frozen=True)
class Noise:
    """The standard deviation of the mean losses of runs that differ in their seed alone."""

    deviation: float
    runs: int


def seed_noise(losses: Sequence[float]) -> Noise:
    """The noise of a seed, from some runs of one mixture.

    Example:
        >>> seed_noise([1.0, 3.0]).deviation.__round__(3)
        1.414
    """
    return Noise(mean_and_error(losses)[1] * len(losses) ** 0.5, len(losses))


def _by_seed(rows: Sequence[ResultLine], label: str, datasets: Collection[str]) -> dict[int, float]:
    """The mean loss of a row's runs, but for those that lack a dataset's: theirs would be a mean of others."""
    whole = [row for row in rows if row["label"] == label and row["nll"].keys() >= set(datasets)]
    return {row["seed"]: row["macro_nll"] for row in whole if row["macro_nll"] is not None}


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _best(found: Found) -> str:
    shares = ", ".join(f"{name} {_percent(share)}" for name, share in found.weights.items())
    told = f"Best static mixture of a surface through {found.mixtures - len(found.left_out)} static mixtures: {shares}."
    if found.left_out:
        told += f" Left out, as runs of theirs lack the held-out loss of a dataset: {', '.join(found.left_out)}."
    return told


def _predicted(found: Found) -> str:
    gain, spread = found.gain, found.spread
    return (
        f"Its predicted gain, in nats of mean loss, is {_with_interval(gain)} over uniform and "
        f"{_with_interval(spread)} over the worst mixture tried; below 0 it would be worse."
    )


def _with_interval(span: Estimate) -> str:
    return f"{span.value:.4f} [{span.low:.4f}, {span.high:.4f}]"


def _judged(found: Found, noise: Noise, losses: Mapping[str, Mapping[int, float]]) -> list[str]:
    ours, theirs = losses[BEST], losses["uniform"]
    # As a gain, which is above 0 where less loss is left.
    measured = paired({seed: -loss for seed, loss in ours.items()}, {seed: -loss for seed, loss in theirs.items()})
    if noise.runs < 2:
        unknown = "By how much seeds of uniform differ isn't known, as fewer than two of its runs have all losses"
        return [f"{unknown}: give more --seeds.", *([_measured(measured)] if measured.pairs else [])]
    told = [f"Seeds of uniform differ by {noise.deviation:.4f} (standard deviation of {noise.runs} runs)."]
    told += [_measured(measured)] if measured.pairs else []
    if measured.pairs < _ENOUGH:
        return [*told, judgement(found.gain, noise.deviation)]
    return [*told, judgement(Estimate(measured.mean, measured.low, measured.high), noise.deviation, "measured")]


def _measured(gain: Paired) -> str:
    way = "lower" if gain.mean >= 0 else "higher"
    interval = f" (gain [{gain.low:.4f}, {gain.high:.4f}], p = {gain.p:.3f})" if gain.pairs > 1 else ""
    return f"On {counted(gain.pairs, 'fresh seed')} it was {abs(gain.mean):.4f} {way} than that of uniform{interval}."


def judgement(gain: Estimate, noise: float, how: str = "predicted") -> str:
    """What follows for whoever would balance: whether there is anything to win.

    Example:
        >>> judgement(Estimate(0.02, 0.012, 0.03), 0.01)
        'The mixture matters more than a seed does, so there is something to win on this mixture.'
    """
    if gain.high <= noise:
        return (
            f"The {how} gain is less than the noise of a seed: no balancer can help on this mixture with this budget. "
            "This says nothing of wrong rows inside a dataset."
        )
    if gain.value < noise:
        return (
            f"The {how} gain is less than the noise of a seed, but its interval reaches beyond: whether a balancer can "
            "help on this mixture isn't known yet. More mixtures or seeds would tell."
        )
    if gain.low > noise:
        return "The mixture matters more than a seed does, so there is something to win on this mixture."
    return (
        f"The {how} gain is more than the noise of a seed, but its interval reaches below: there may be something to "
        "win on this mixture. More mixtures or seeds would tell."
    )


def _quality(found: Found) -> str:
    told = (
        f"Predicted from the others, a mixture's mean loss is off by {found.error:.4f} (root mean square), where the "
        f"mixtures differ by {found.deviation:.4f} (standard deviation)"
    )
    if found.error < found.deviation:
        return f"{told}."
    return f"{told}: their mean would predict as well, so these shares are little more than a guess."
