"""`hbo train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hbo.cli.check import Config, Overrides, load_run, print_plan, train_words
from hbo.cli.console import out, say, tell, tell_part
from hbo.cli.screen import screen
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
    if dry_run:
        words = train_words(config, overrides, output)
        print_plan(lambda: load_run(config, overrides, output, offline=True), words, offline=True)
    else:
        train_run(load_run(config, overrides, output), resume=resume, overwrite=overwrite)


def train_run(run: RunConfig, *, resume: bool, overwrite: bool) -> None:
    """Trains, and shows how it went."""
    if run.output is None:
        raise ConfigError("no output folder; set output: in the configuration, or give --output")
    from hbo.folder.paths import METRICS_FILE
    from hbo.folder.records import read_object
    from hbo.folder.run import read_run
    from hbo.report.outcome import outcome
    from hbo.report.terminal import metrics_table
    from hbo.run.train import train as run_training

    with screen() as shown:
        folder = run_training(run, resume=resume, overwrite=overwrite, track=shown.track, say=say, hear=shown.hear)
    out.print(metrics_table(read_object(folder / METRICS_FILE) or {}))
    tell("")
    for part in outcome(read_run(folder)):
        tell_part(*part)
