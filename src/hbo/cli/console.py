"""What the commands show: results on standard output, progress and complaints on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from hbo.text import one_line

# torchrun and accelerate set RANK; only the first process speaks, except to complain.
is_first = os.environ.get("RANK", "0") == "0"
console = Console(stderr=True, highlight=False)
out = Console(highlight=False, quiet=not is_first)


def say(line: str) -> None:
    """Shows one line of what is going on."""
    if is_first:
        console.print(line, soft_wrap=True, markup=False)


@contextmanager
def bars() -> Iterator[Callable[..., Any]]:
    """A `hbo.progress.Track` that shows a bar for each phase."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not is_first) as shown:

        @contextmanager
        def track(phase: str, total: int) -> Iterator[Callable[[int], None]]:
            task = shown.add_task(phase, total=total)
            yield lambda count: shown.advance(task, count)
            shown.refresh()

        yield track


def tell(line: object) -> None:
    """Prints a result on a line of its own, however long, as it is."""
    out.print(str(line), soft_wrap=True, markup=False)


def complain(message: str, code: int) -> NoReturn:
    """Ends the process with an error in one line."""
    console.print(f"error: {one_line(message)}", soft_wrap=True, markup=False)
    sys.exit(code)


def show_warning(message: Warning | str, category: type[Warning], filename: str, *args: Any, **kwargs: Any) -> None:
    """A `warnings.showwarning` that shows hbo's own warnings, a line for each."""
    # Other libraries warn their developers; ours warn the user.
    if is_first and category is UserWarning and Path(__file__).parents[1] in Path(filename).parents:
        console.print(f"warning: {one_line(str(message))}", soft_wrap=True, markup=False)
