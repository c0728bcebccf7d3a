"""A grid that goes on, in a terminal: a line for each run, and one for all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hbo.compare.grid_view import GridView, RunningCell, Show
from hbo.text import counted, duration, one_line

_BAR = 24  # cells at the most


@contextmanager
def grid_screen(console: Console) -> Iterator[Show | None]:
    """What shows a grid below the lines that are printed meanwhile; None where there is no terminal."""
    if not console.is_terminal:
        yield None
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda view: live.update(grid_shown(view), refresh=True)


def grid_shown(view: GridView) -> Group:
    """The grid as it stands."""
    lines = Table.grid(padding=(0, 1), expand=True)
    lines.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    lines.add_column(max_width=_BAR)
    for _ in range(3):
        lines.add_column(no_wrap=True, justify="right")
    for run in view.running:
        lines.add_row(Text(one_line(run.name)), _bar(run), *map(Text, _words(run)))
    return Group(lines, Text(_told(view)))


def _told(view: GridView) -> str:
    """How far all runs have come, in a line."""
    waiting = view.total - view.finished - view.failed - len(view.running)
    parts = [
        f"{view.finished} of {counted(view.total, 'run')} finished",
        f"{view.failed} failed" if view.failed else "",
        f"{max(waiting, 0)} waiting" if waiting > 0 else "",
        f"about {duration(view.seconds_left)} left" if view.seconds_left else "",
    ]
    return ", ".join(part for part in parts if part)


def _bar(run: RunningCell) -> ProgressBar | Text:
    return ProgressBar(run.total, run.done, width=None) if run.total else Text("")


def _words(run: RunningCell) -> list[str]:
    doing = "step" if run.doing == "training" else one_line(run.doing)
    count = f" {run.done:,} of {run.total:,}" if run.total else ""
    loss = "" if run.loss is None else f"loss {run.loss:.4g}"
    return [f"{doing}{count}", loss, "" if run.seconds_left is None else f"{duration(run.seconds_left)} left"]
