"""Several run folders → runs that a page can show side by side: told apart by name, with one place per dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hbo.errors import ConfigError
from hbo.folder.run import Run, read_run
from hbo.report.tables import Tables, tables


@dataclass(frozen=True)
class Shown:
    """One of several runs.

    Attributes:
        label: The shortest end of its path that no other run has.
        run: What its folder holds.
        series: Its ledger.
    """

    label: str
    run: Run
    series: Tables


def read_runs(folders: Sequence[Path]) -> list[Shown]:
    """The runs in `folders`, in this order.

    Raises:
        ConfigError: A folder is given twice.
        DataError: A folder isn't a run's, or a file of it is broken.
    """
    whole = [folder.resolve() for folder in folders]
    for place, folder in enumerate(whole):
        if folder in whole[:place]:
            raise ConfigError(f"{folders[place]}: is given twice; name each run once")
    runs = [read_run(folder) for folder in folders]
    return [Shown(label, run, tables(run.lines, run.drawn_KL)) for label, run in zip(labels(whole), runs, strict=True)]


def labels(folders: Sequence[Path]) -> list[str]:
    """For each of these different folders the shortest end of its path that no other ends with.

    Raises:
        Nothing.

    Example:
        >>> labels([Path("/a/x/run"), Path("/a/y/run"), Path("/a/other")])
        ['x/run', 'y/run', 'other']
    """
    found = []
    for folder in folders:
        depth = 1
        while depth < len(folder.parts) and sum(_end(other, depth) == _end(folder, depth) for other in folders) > 1:
            depth += 1
        found.append("/".join(_end(folder, depth)))
    return found


def places(runs: Sequence[Shown]) -> dict[str, int]:
    """Each dataset of any of the runs → its place among the colours: the same in all of them.

    Raises:
        Nothing.
    """
    names = dict.fromkeys(name for shown in runs for name in shown.run.datasets)
    return {name: place for place, name in enumerate(names)}


def _end(folder: Path, depth: int) -> tuple[str, ...]:
    return folder.parts[-depth:]
