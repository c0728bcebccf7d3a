"""The search for the best static mixture: its runs, and what is found, which is written down once and stays.

K datasets, N mixtures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hbo.arrays import Floats
from hbo.compare.grid import Cell, cells, static_cell
from hbo.compare.optimum import Estimate, Optimum, optimum
from hbo.compare.simplex import least_share, spread
from hbo.config import RunConfig
from hbo.config.file import load
from hbo.errors import ConfigError, DataError
from hbo.folder.ledger import read_lines
from hbo.folder.metrics import Metrics
from hbo.folder.paths import LEDGER, METRICS_FILE
from hbo.folder.records import Count, Record

BEST = "best static mixture found"
"""The row of the table."""
FOUND_FILE = "best_mixture.json"
FIRST_SEED = 1000
"""Seeds of a search count up from here, whatever the comparison's are, so that naming more of those changes nothing."""
_REPEATS = 3  # seeds of uniform at the least, which say by how much runs differ without a reason
_EVEN, _BY_SIZE = "uniform", "proportional"
_MOST = 64  # datasets; beyond, half-percent steps are no shares any more


class Share(Record):
    """The share found for a dataset, its interval, and how well the loss of that dataset is predicted."""

    share: float
    low: float
    high: float
    error: float
    """Root mean square, in nats, of each run's loss predicted from the others."""


class SearchRun(Record):
    """A run of the search: its mixture and its held-out losses."""

    mixture: str
    seed: Count
    shares: dict[str, float]
    nll: dict[str, float]

    @property
    def mean(self) -> float:
        """The mean loss over datasets."""
        return sum(self.nll.values()) / len(self.nll)


class Found(Record):
    """`best_mixture.json`: what a search found, and the runs that it was found from."""

    indent = 1

    mixtures: Count
    seeds: tuple[Count, ...]
    datasets: dict[str, Share]
    gain: Estimate
    """Predicted mean loss of uniform less that of the best shares."""
    spread: Estimate
    """The same of the worst mixture that was tried."""
    error: float
    """Root mean square of the mean loss of each mixture predicted from the others."""
    deviation: float
    """Standard deviation of the mixtures' mean losses, which the error is to be held against."""
    runs: tuple[SearchRun, ...]
    left_out: tuple[str, ...] = ()
    """Mixtures that the surface knows nothing of, as a run of theirs lacks the held-out loss of a dataset."""

    @property
    def weights(self) -> dict[str, float]:
        """The best shares."""
        return {name: found.share for name, found in self.datasets.items()}


@dataclass(frozen=True)
class Search:
    """A search that is planned.

    Attributes:
        mixtures: How many static mixtures.
        seeds: Those that every mixture has.
        cells: All runs: the mixtures, and uniform on further seeds.
        shares: Mixture → its shares, but for proportional's, which depend on the rows.
    """

    mixtures: int
    seeds: tuple[int, ...]
    cells: list[Cell]
    shares: dict[str, dict[str, float]]

    @property
    def even(self) -> dict[str, float]:
        """Dataset → the share of all."""
        return self.shares[_EVEN]

    def lines(self) -> Iterator[str]:
        """A line for each mixture with its shares."""
        for mixture, shares in self.shares.items():
            yield f"{mixture}: {', '.join(f'{name} {share:.1%}' for name, share in shares.items())}"
        yield f"{_BY_SIZE}: as the rows of the datasets are"


def references(methods: str | None, vary: Sequence[str], mixtures: int | None) -> list[str]:
    """The static methods that stand beside the best mixture: uniform, and proportional where methods are asked for.

    Raises:
        ConfigError: The options don't fit together.
    """
    if mixtures is None and methods is None:
        raise ConfigError("--methods: name what to compare, such as hbo,proportional,uniform; or give --mixtures 12")
    if mixtures is not None and (other := [key for key in vary if not key.startswith("balance.")]):
        raise ConfigError(
            f"--vary {other[0].partition('=')[0]}: each value may have a different best mixture; with --mixtures, "
            "vary keys of `balance` only, or make a grid for each value"
        )
    return [_EVEN, _BY_SIZE] if methods else [_EVEN]


def planned(config: Path, mixtures: int, repeats: int, fresh: Sequence[int], output: Path) -> Search:
    """The runs of a search of `mixtures` static mixtures, each on `repeats` seeds that are none of the `fresh` ones.

    Raises:
        ConfigError: CONFIG has nothing to search, or too few mixtures or seeds are asked for.
    """
    own = load(config)
    names = _searchable(own, mixtures)
    if repeats < 1:
        raise ConfigError(f"--mixture-seeds {repeats}: give 1 or more")
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + repeats))
    noise = tuple(range(FIRST_SEED, FIRST_SEED + max(repeats, _REPEATS)))
    if taken := [seed for seed in fresh if seed in noise]:
        raise ConfigError(
            f"--seeds {taken[0]}: is a seed of the search ({noise[0]} to {noise[-1]}), so the best mixture would be "
            "judged by a run that it was chosen from; give another seed"
        )
    point_NK = spread(mixtures - 1, len(names))
    shares = {f"mixture {n}": dict(zip(names, map(float, point_NK[n]), strict=True)) for n in range(1, len(point_NK))}
    runs = [*cells(config, [_EVEN], noise, (), output), *cells(config, [_BY_SIZE], seeds, (), output)]
    runs += [static_cell(config, name, shares[name], seed, output) for name in shares for seed in seeds]
    return Search(mixtures, seeds, runs, {_EVEN: dict.fromkeys(names, 1 / len(names)), **shares})


def _searchable(own: RunConfig, mixtures: int) -> list[str]:
    entries = own.mixture.datasets
    named = {key: [name for name, entry in entries.items() if getattr(entry, key)] for key in ("group_by", "weight")}
    if not 2 <= len(entries) <= _MOST:
        raise ConfigError(f"--mixtures: CONFIG has {len(entries)} datasets; a search takes 2 to {_MOST}")
    if named["group_by"]:
        raise ConfigError(
            f"--mixtures: dataset '{named['group_by'][0]}' is split by group_by, and its parts have no weights of "
            "their own; write each as a dataset of its own, with `where`"
        )
    if named["weight"]:
        raise ConfigError(
            f"--mixtures: dataset '{named['weight'][0]}' has a weight, so uniform would not be uniform; leave "
            "weights out: the search tries them itself"
        )
    if not own.mixture.eval_fraction:
        raise ConfigError("--mixtures: nothing is held out (mixture.eval_fraction is 0), so no mixture can be judged")
    if mixtures < (fewest := _fewest(len(entries))):
        raise ConfigError(
            f"--mixtures {mixtures}: too few for {len(entries)} datasets; give {fewest} at least, better "
            f"{3 * len(entries)} or more"
        )
    return list(entries)


def already_found(search: Search, output: Path) -> Found | None:
    """What this search found before; None where it has not ended yet.

    Raises:
        ConfigError: Another search was made in this folder.
        DataError: The file is damaged.
    """
    found = Found.read(output / FOUND_FILE)
    names = list(search.even)
    if found and (found.mixtures, found.seeds, list(found.datasets)) != (search.mixtures, search.seeds, names):
        raise ConfigError(
            f"{output / FOUND_FILE}: was found from {found.mixtures} mixtures of {', '.join(found.datasets)} on "
            f"{len(found.seeds)} seeds; ask for the same again, or give another --output"
        )
    return found


def settled(search: Search, output: Path) -> Found:
    """What the search found, written down the first time; its runs are all finished.

    Raises:
        ConfigError: As `already_found`.
        DataError: Too few mixtures have held-out losses, or the file can't be written.
    """
    found = already_found(search, output)
    if found is None:
        found = _fitted(search, finished_runs(search))
        found.write(output / FOUND_FILE)
    return found


def finished_runs(search: Search) -> list[SearchRun]:
    """Those of the search's runs that are finished and have a held-out loss of every dataset.

    Raises:
        DataError: A file of a run is damaged.
    """
    found = []
    for cell in search.cells:
        metrics = Metrics.read(cell.folder / METRICS_FILE) if cell.is_finished else None
        nll = _losses(metrics, search) if metrics else {}
        if nll.keys() == search.even.keys():
            shares = search.shares.get(cell.label) or _drawn_at(cell)
            found.append(SearchRun(mixture=cell.label, seed=cell.seed, shares=shares, nll=nll))
    return found


def _losses(metrics: Metrics, search: Search) -> dict[str, float]:
    known = {name: metrics.after[name].nll for name in search.even if name in metrics.after}
    return {name: nll for name, nll in known.items() if np.isfinite(nll)}


def _drawn_at(cell: Cell) -> dict[str, float]:
    """The probabilities that a static run has drawn its datasets at."""
    names, lines = read_lines(cell.folder / LEDGER)
    return dict(zip(names, lines[0].p_K, strict=True))


def _fitted(search: Search, runs: Sequence[SearchRun]) -> Found:
    names = list(search.even)
    mixtures = list(dict.fromkeys(cell.label for cell in search.cells))
    seeds = {(run.mixture, run.seed) for run in runs}
    # All mixtures are compared on the same seeds. Uniform's further seeds tell of noise alone.
    left_out = [label for label in mixtures if any((label, seed) not in seeds for seed in search.seeds)]
    _refuse_too_few(search, len(mixtures) - len(left_out))
    kept: dict[str, list[SearchRun]] = {}
    for run in runs:
        if run.seed in search.seeds and run.mixture not in left_out and _is_inside(run.shares):
            kept.setdefault(run.mixture, []).append(run)
    share_NK = np.array([[each[0].shares[name] for name in names] for each in kept.values()])
    loss_NK = np.array([_mean_loss(each, names) for each in kept.values()])
    best = optimum(share_NK, loss_NK)
    return _recorded(search, runs, left_out, best)


def _refuse_too_few(search: Search, left: int) -> None:
    if left >= _fewest(len(search.even)):
        return
    measured = [_losses(Metrics.read(cell.folder / METRICS_FILE) or Metrics(), search) for cell in search.cells]
    for name in search.even:
        if not any(name in nll for nll in measured):
            raise DataError(
                f"--mixtures: no run has a held-out loss of dataset '{name}', so no mixture can be judged; give it two "
                "rows or more, so that one is held out, or leave it out, and give another --output"
            )
    raise DataError(
        f"--mixtures {search.mixtures}: only {left} of the mixtures have held-out losses of all {len(search.even)} "
        f"datasets, and {_fewest(len(search.even))} are needed; give more --mixtures, or, if training diverged, lower "
        "train.learning_rate and give another --output"
    )


def _fewest(datasets: int) -> int:
    return datasets + 2


def _is_inside(shares: Mapping[str, float]) -> bool:
    """Whether the surface may learn from these: proportional may lie far outside of where the other mixtures are."""
    return min(shares.values()) >= least_share(len(shares)) / 2


def _mean_loss(runs: Sequence[SearchRun], names: Sequence[str]) -> Floats:
    found: Floats = np.mean([[run.nll[name] for name in names] for run in runs], axis=0)
    return found


def _recorded(search: Search, runs: Sequence[SearchRun], left_out: Sequence[str], best: Optimum) -> Found:
    columns = (best.share_K, best.low_K, best.high_K, best.error_K)
    rows = {
        name: dict(zip(("share", "low", "high", "error"), (float(column[k]) for column in columns), strict=True))
        for k, name in enumerate(search.even)
    }
    return Found(
        mixtures=search.mixtures,
        seeds=search.seeds,
        datasets={name: Share(**row) for name, row in rows.items()},
        gain=best.gain,
        spread=best.spread,
        error=best.error,
        deviation=best.deviation,
        runs=tuple(runs),
        left_out=tuple(left_out),
    )


def judged_cells(
    grid: Sequence[Cell], config: Path, references: Sequence[str], weights: Mapping[str, float], output: Path
) -> list[Cell]:
    """The comparison's cells with the static rows that it is judged by: references that it lacks, and the best found.

    Seed by seed, as `grid` is.
    """
    seeds, found = list(dict.fromkeys(cell.seed for cell in grid)), list(grid)
    labels = {cell.label for cell in grid}
    missing = [name for name in references if name not in labels]
    found += cells(config, missing, seeds, (), output) if missing else []
    found += [static_cell(config, BEST, weights, seed, output) for seed in seeds]
    return sorted(found, key=lambda cell: seeds.index(cell.seed))
