"""Looks at a run until it ends, and shows it: as a screen in a terminal, as lines where there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from hbo.watch.lines import Lines
from hbo.watch.screen import frame
from hbo.watch.view import View, Watcher, is_run


def wait_for_run(folder: Path, interval: float) -> None:
    """Returns when a run has begun to write into the folder.

    Raises:
        Nothing.
    """
    while not is_run(folder):
        time.sleep(interval)


def show(watcher: Watcher, console: Console, *, interval: float, once: bool = False) -> None:
    """Shows the run until it ends, or `once` as it stands.

    Raises:
        DataError: A file of the run is damaged.
    """
    is_screen = console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only
    if once:
        view = watcher.look()
        if is_screen:
            console.print(frame(view, console.width))
        else:
            _print(Lines(), view, console)
    elif is_screen:
        _live(watcher, console, interval)
    else:
        lines = Lines()
        for view in _looks(watcher, interval):
            _print(lines, view, console)


def _live(watcher: Watcher, console: Console, interval: float) -> None:
    # The terminal's second screen: it can be redrawn when the window changes its size, and leaves no trace.
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        for view in _looks(watcher, interval):
            shown = frame(view, console.width, console.height)
            live.update(shown, refresh=True)
    console.print(frame(view, console.width))


def _looks(watcher: Watcher, interval: float) -> Iterator[View]:
    while True:
        view = watcher.look()
        yield view
        if view.has_ended:
            return
        time.sleep(interval)


def _print(lines: Lines, view: View, console: Console) -> None:
    for line in lines.new(view):
        console.print(Text(line), soft_wrap=True)
        console.file.flush()
