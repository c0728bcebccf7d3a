"""`hbo replay`: the rows of a step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hbo.cli.console import tell


def replay_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    step: Annotated[int, typer.Option("--step", help="Optimizer step, from 1.")],
) -> None:
    """Print the rows that a step of RUN was trained on, as JSON lines."""
    from hbo.run.replay import rows_of_step

    for line in rows_of_step(run, step):
        tell(line)
