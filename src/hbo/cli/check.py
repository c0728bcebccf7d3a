"""`hbo check`, and what it shares with the other commands that read a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hbo.cli.console import bars, out, tell

if TYPE_CHECKING:
    from hbo.config import RunConfig

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as balance.probes=8.")]


def check_command(config: Config, overrides: Overrides = None) -> None:
    """Say whether CONFIG can run, and what it would do."""
    print_plan(load_run(config, overrides))


def load_run(
    config: Path, overrides: list[str] | None, output: Path | None = None, *, offline: bool = False
) -> RunConfig:
    """The run of CONFIG, its `demo:` names filled in; offline nothing is made for them."""
    from hbo.config.file import load

    run = load(config, overrides or ())
    if "demo:" in str(run):
        from hbo.demo import names

        with bars() as track:
            run = names.with_sizes(run) if offline and not names.is_built(run) else names.fill_in(run, track=track)
    return run if output is None else run.model_copy(update={"output": str(output)})


def print_plan(run: RunConfig, *, offline: bool = False) -> None:
    """Shows what the run would do."""
    from hbo.check.plan import plan_of
    from hbo.report import terminal

    with bars() as track:
        plan = plan_of(run, offline=offline, track=track)
    tell(terminal.plan_title(plan))
    out.print(terminal.plan_table(plan))
    for note in terminal.plan_notes(plan):
        tell(note)
