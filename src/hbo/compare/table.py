"""The runs of a grid → what its tables show: means over seeds, best and second best, wins, paired differences.

A row stands for a method with its varied settings, a column for a measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hbo.compare.grid import STATIC
from hbo.compare.statistics import Paired, mean_and_error, paired
from hbo.config.methods import follows_rewards

ResultLine = dict[str, Any]
"""A line of results.jsonl."""

_TIE = 1e-12


@dataclass(frozen=True)
class Metric:
    """A measure.

    Attributes:
        name: As shown.
        of: Its value in a run; None where the run has none.
        better: −1 if less is better, 1 if more is, 0 if neither wins.
        digits: Decimals shown.
        scale: What a value is shown as a multiple of; shares of right answers are shown in percent.
        unit: What stands behind the number.
    """

    name: str
    of: Callable[[ResultLine], float | None]
    better: int = -1
    digits: int = 3
    scale: float = 1.0
    unit: str = ""

    @property
    def reading(self) -> str:
        """Which way is better, and the unit of a difference."""
        points = "percentage points; " if self.unit else ""
        return f"{points}{'less' if self.better < 0 else 'more'} is better"

    def shown(self, entry: SeedMean) -> str:
        """A mean with its error, as text; a dash where there is none.

        Example:
            >>> Metric("loss", lambda run: None).shown(SeedMean(1.0, 0.25, 3))
            '1.000 ± 0.250'
        """
        if math.isnan(entry.mean):
            return "–"
        error = "" if math.isnan(entry.error) else f" ± {self.scale * entry.error:.{self.digits}f}"
        return f"{self.scale * entry.mean:.{self.digits}f}{self.unit}{error}"


def _percent(name: str, of: Callable[[ResultLine], float | None], digits: int = 1) -> Metric:
    return Metric(name, of, better=1, digits=digits, scale=100.0, unit="%")


@dataclass(frozen=True)
class SeedMean:
    """Mean and standard error over the seeds of a row.

    `rank` is 1 for the best of its column, 2 for the next, among the rows with the most seeds.
    """

    mean: float
    error: float
    seeds: int
    rank: int = 0


@dataclass(frozen=True)
class Difference:
    """A row's paired difference to the best baseline in one measure."""

    label: str
    found: Paired


@dataclass(frozen=True)
class Contest:
    """All rows against the best baseline in one measure: of those with the most seeds, the one of the best mean."""

    column: Metric
    best: str
    differences: list[Difference]


@dataclass(frozen=True)
class Table:
    """What a comparison shows.

    Attributes:
        labels: Rows.
        losses: Columns of each dataset's NLL.
        averages: Columns of what all datasets have in common, always shown together: means over them.
        costs: Columns of the overhead and the seconds.
        entries: By row and column; names don't tell columns apart, as a dataset may be called `seconds`.
        accuracies: Columns of each dataset's accuracy, where it has one.
        benchmarks: Columns of the accuracy in each of the paper's means and each task, where runs were evaluated.
        wins: Datasets in which a row has the lowest mean NLL, of the rows with the most seeds; a tie counts for each.
        contests: Against the best baseline, measure by measure.
        seeds: How many seeds each row has.
        judged: Rows that the comparison is about: hbo's, or without it those of every method that follows rewards.
        baselines: The others, but for a mixture that took a search to find: nobody had that choice without one.
        notes: Sentences that stand under the table: which runs the averages leave out.
    """

    labels: list[str]
    losses: list[Metric]
    averages: list[Metric]
    costs: list[Metric]
    accuracies: list[Metric]
    benchmarks: list[Metric]
    entries: dict[tuple[str, Metric], SeedMean]
    wins: dict[str, int]
    contests: list[Contest]
    seeds: dict[str, int]
    judged: list[str]
    baselines: list[str]
    notes: list[str]

    def grid(
        self, columns: Sequence[Metric], shown: Callable[[SeedMean, Metric], str], *, wins: bool = False
    ) -> tuple[list[str], list[list[str]]]:
        """The head and the rows of some columns, each entry as it is `shown`."""
        head = ["method", "seeds", *(column.name for column in columns), *(["wins"] if wins else [])]
        rows = []
        for label in self.labels:
            cells = [shown(self.entries[label, column], column) for column in columns]
            rows.append([label, str(self.seeds[label]), *cells, *([str(self.wins[label])] if wins else [])])
        return head, rows

    def leading(self, labels: Sequence[str], column: Metric) -> str | None:
        """The best of these rows in a measure, of those with the most seeds in it; None where none has a value."""
        return _leading(labels, column, self.entries)


def tabulate(runs: Sequence[ResultLine]) -> Table:
    """The table of some finished runs, of which there is at least one."""
    labels = list(dict.fromkeys(run["label"] for run in runs))
    names = list(dict.fromkeys(name for run in runs for name in run["nll"]))
    answered = [name for name in names if any(_accuracy(name)(run) is not None for run in runs)]
    losses = [Metric(name, _nll(name)) for name in names]
    averages = [
        Metric("macro NLL", _average("macro_nll", names)),
        Metric("relative NLL", _average("relative_nll", names)),
        Metric("worst NLL", _average("worst_nll", names)),
        *([_percent("accuracy", _mean_accuracy)] if answered else []),
    ]
    costs = [
        Metric("overhead", lambda run: run["overhead"], better=0, digits=1, scale=100.0, unit="%"),
        Metric("seconds", lambda run: run["seconds"], better=0, digits=0),
    ]
    accuracies = [_percent(f"accuracy of {name}", _accuracy(name)) for name in answered]
    asked = list(dict.fromkeys(name for run in runs for name in run.get("benchmarks") or ()))
    benchmarks = [_percent(name, _benchmark(name), digits=2) for name in asked]
    entries: dict[tuple[str, Metric], SeedMean] = {}
    for column in (*losses, *averages, *costs, *accuracies, *benchmarks):
        entries |= _ranked(column, labels, runs)
    wins = {label: sum(entries[label, column].rank == 1 for column in losses) for label in labels}
    seeds = {label: sum(run["label"] == label for run in runs) for label in labels}
    judged = _judged(runs)
    searched = {run["label"] for run in runs if run["method"] == STATIC}
    baselines = [label for label in labels if label not in {*judged, *searched}]
    fought = [*averages, *(column for column in benchmarks if column.name.startswith("μ"))]
    contests = [contest for column in fought if (contest := _contest(column, labels, baselines, runs, entries))]
    contests += _against_static(averages[0], labels, runs)
    return Table(
        labels, losses, averages, costs, accuracies, benchmarks, entries, wins, contests, seeds, judged, baselines,
        _notes(runs, names),
    )  # fmt: skip


def _judged(runs: Sequence[ResultLine]) -> list[str]:
    methods = {run["label"]: run["method"] for run in runs}
    published = [label for label, method in methods.items() if method == "hbo"]
    return published or [label for label, method in methods.items() if follows_rewards(method)]


def _nll(name: str) -> Callable[[ResultLine], float | None]:
    return lambda run: run["nll"].get(name)


def _average(key: str, names: Sequence[str]) -> Callable[[ResultLine], float | None]:
    """An average over all these datasets: without one of them it would be that of others than in the next row."""
    return lambda run: run[key] if run["nll"].keys() >= set(names) else None


def _notes(runs: Sequence[ResultLine], names: Sequence[str]) -> list[str]:
    missing = [[name for name in names if name not in run["nll"]] for run in runs]
    found = [
        f"{run['label']}, seed {run['seed']} ({', '.join(lost)})"
        for run, lost in zip(runs, missing, strict=True)
        if lost
    ]
    told = "Left out of the averages over datasets, as they lack the held-out loss of a dataset"
    return [f"{told}: {'; '.join(found)}. If training diverged there, lower train.learning_rate."] if found else []


def _accuracy(name: str) -> Callable[[ResultLine], float | None]:
    return lambda run: ((run["accuracy"] or {}).get(name) or {}).get("accuracy")


def _mean_accuracy(run: ResultLine) -> float | None:
    known = [score["accuracy"] for score in (run["accuracy"] or {}).values()]
    return sum(known) / len(known) if known else None


def _benchmark(name: str) -> Callable[[ResultLine], float | None]:
    return lambda run: (run.get("benchmarks") or {}).get(name)


def _ranked(column: Metric, labels: Sequence[str], runs: Sequence[ResultLine]) -> dict[tuple[str, Metric], SeedMean]:
    found = {}
    for label in labels:
        values = [v for run in runs if run["label"] == label and (v := column.of(run)) is not None]
        found[label, column] = SeedMean(*mean_and_error(values), len(values))
    rivals = _fullest(labels, column, found)
    if not column.better or len(rivals) < 2:
        return found
    level = {label: -column.better * found[label, column].mean for label in rivals}
    ordered = sorted(level.values())
    steps = [each for i, each in enumerate(ordered) if not i or each - ordered[i - 1] > _TIE]
    for label in rivals:
        place = sum(step < level[label] - _TIE for step in steps) + 1
        found[label, column] = replace(found[label, column], rank=place if place <= 2 else 0)
    return found


def _fullest(labels: Sequence[str], column: Metric, entries: Mapping[tuple[str, Metric], SeedMean]) -> list[str]:
    """The rows with the most seeds in a measure: a mean over other seeds may be better by the luck of the seeds."""
    most = max((entries[label, column].seeds for label in labels), default=0)
    return [label for label in labels if most and entries[label, column].seeds == most]


def _leading(labels: Sequence[str], column: Metric, entries: Mapping[tuple[str, Metric], SeedMean]) -> str | None:
    fullest = _fullest(labels, column, entries)
    return min(fullest, key=lambda label: -column.better * entries[label, column].mean, default=None)


def _contest(
    column: Metric,
    labels: Sequence[str],
    baselines: Sequence[str],
    runs: Sequence[ResultLine],
    entries: Mapping[tuple[str, Metric], SeedMean],
) -> Contest | None:
    best = _leading(baselines, column, entries)
    return None if best is None else Contest(column, best, _differences(column, best, labels, runs))


def _against_static(column: Metric, labels: Sequence[str], runs: Sequence[ResultLine]) -> list[Contest]:
    """All rows against the best static mixture, where one was searched for."""
    best = next((run["label"] for run in runs if run["method"] == STATIC), None)
    return [] if best is None else [Contest(column, best, _differences(column, best, labels, runs))]


def _differences(column: Metric, best: str, labels: Sequence[str], runs: Sequence[ResultLine]) -> list[Difference]:
    by: dict[str, dict[int, float]] = {label: {} for label in labels}
    for run in runs:
        if (value := column.of(run)) is not None:
            by[run["label"]][run["seed"]] = value
    return [Difference(label, paired(by[label], by[best])) for label in labels if label != best]
