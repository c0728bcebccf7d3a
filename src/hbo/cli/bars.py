"""Bars in a terminal, however narrow: the bar gives way, and never a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from hbo.cli.shares import shares_told
from hbo.progress import Lap
from hbo.text import duration

_RECENT = 1200  # seconds from which the pace is taken: a step of a large model takes minutes
_BAR = 40  # cells at the most


class Bars:
    """A bar for each phase, and below them what training says of itself."""

    def __init__(self, console: Console) -> None:
        self._shown = _Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(max_width=_BAR)),
            _Count(table_column=Column(no_wrap=True, justify="right")),
            _Time(table_column=Column(no_wrap=True)),
            console=console,
            speed_estimate_period=_RECENT,
        )

    def __enter__(self) -> Bars:
        self._shown.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._shown.stop()

    @contextmanager
    def track(self, phase: str, total: int) -> Iterator[Callable[[int], None]]:
        """A `hbo.progress.Track`."""
        self._shown.below = None
        task = self._shown.add_task(phase, total=total)
        yield lambda count: self._shown.advance(task, count)
        self._shown.refresh()

    def hear(self, lap: Lap) -> None:
        """A `hbo.progress.Hear`."""
        self._shown.below = Text(f"loss {lap.loss:.4g}; {shares_told(lap.shares)}")


class _Progress(Progress):
    below: Text | None = None

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.below is not None:
            yield self.below


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = 0 if task.total is None else int(task.total)
        return Text(f"{int(task.completed):,} of {total:,}")


class _Time(ProgressColumn):
    def render(self, task: Task) -> Text:
        if task.finished or task.elapsed is None:
            return Text(f" {duration(task.finished_time or 0.0)}")
        left = task.time_remaining
        return Text(f" {duration(task.elapsed)}" if left is None else f" {duration(left)} left")
