"""`hbo watch`: a run that goes on, in the terminal or on a page."""

from __future__ import annotations

import math
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hbo.cli.console import out, say
from hbo.errors import ConfigError


def watch_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    interval: Annotated[float, typer.Option("--interval", help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show the run as it stands, and stop.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for RUN to be there.")] = False,
    web: Annotated[bool, typer.Option("--web", help="Serve the report on 127.0.0.1, refreshing itself.")] = False,
    port: Annotated[int | None, typer.Option("--port", help="Port of --web; absent: a free one.")] = None,
) -> None:
    """Show a run while it goes on; ends with it, and never touches it."""
    if not (math.isfinite(interval) and 0.1 <= interval <= 3600):
        raise ConfigError(f"--interval is {interval:g}; give from 0.1 to 3600 seconds")
    if port is not None and not web:
        raise ConfigError("--port needs --web; give both")
    if web and once:
        raise ConfigError("--web and --once can't be combined; `hbo report` writes the page once")
    if port is not None and not 0 <= port <= 65535:
        raise ConfigError(f"--port is {port}; give from 1 to 65535, or 0 for a free one")
    from hbo.watch.frames import show, wait_for_run
    from hbo.watch.server import serve
    from hbo.watch.view import Watcher

    before = signal.signal(signal.SIGTERM, _leave)
    try:
        if wait and not once:
            wait_for_run(run, interval)
        watcher = Watcher(run)
        if web:
            serve(watcher, port or 0, interval, say)
        else:
            show(watcher, out, interval=interval, once=once)
    except KeyboardInterrupt:
        sys.exit(130)  # the usual way to leave, and no word needed
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: Any) -> None:
    sys.exit(128 + number)  # by way of what gives the terminal back as it was
