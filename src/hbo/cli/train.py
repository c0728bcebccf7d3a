"""`hbo train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hbo.cli.check import Config, Overrides, load_run, print_plan
from hbo.cli.console import bars, out, say, tell
from hbo.errors import ConfigError

if TYPE_CHECKING:
    from hbo.config import RunConfig

Resume = Annotated[bool, typer.Option("--resume", help="Go on from the folder's last checkpoint.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")]


def train_command(
    config: Config,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option("--output", help="Run folder; replaces `output:`.")] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done; no network.")] = False,
) -> None:
    """Fine-tune as CONFIG says."""
    run = load_run(config, overrides, output, offline=dry_run)
    if dry_run:
        print_plan(run, offline=True)
    else:
        train_run(run, resume=resume, overwrite=overwrite)


def train_run(run: RunConfig, *, resume: bool, overwrite: bool) -> None:
    """Trains, and shows how it went."""
    if run.output is None:
        raise ConfigError("there is no output folder; set output: in the configuration or give --output")
    from hbo.folder.paths import METRICS_FILE, REPORT
    from hbo.folder.records import read_object
    from hbo.report.terminal import metrics_table
    from hbo.run.train import train as run_training

    with bars() as track:
        folder = run_training(run, resume=resume, overwrite=overwrite, track=track, say=say)
    out.print(metrics_table(read_object(folder / METRICS_FILE) or {}))
    tell(f"run     {folder}\nreport  {folder / REPORT}")
