"""`hbo report`: the page of one run or several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hbo.cli.console import tell


def report_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN [RUN]...", help="Run folders.")],
    output: Annotated[Path | None, typer.Option("--output", help="HTML file; absent: RUN/report.html.")] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Folder for PNG and SVG of the probabilities over training.")
    ] = None,
) -> None:
    """Write the page that shows one run, or several side by side."""
    from hbo.report.page import write_reports

    written = []
    if figures is not None:
        # First what may lack a library, so that a command that fails leaves nothing behind.
        from hbo.report.paper_figures import write_figures

        written = write_figures(runs, figures)
    if output is not None or figures is None or len(runs) == 1:
        written.insert(0, write_reports(runs, output))
    for path in written:
        tell(path)
