"""`hbo check`, and what it shares with the other commands that read a configuration."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hbo.cli.console import out, tell, tell_part, warnings_kept
from hbo.cli.screen import bars
from hbo.text import counted, one_line

if TYPE_CHECKING:
    from hbo.config import RunConfig

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as balance.probes=8.")]


def check_command(config: Config, overrides: Overrides = None) -> None:
    """Say whether CONFIG can run, and what it would do."""
    print_plan(lambda: load_run(config, overrides), train_words(config, overrides))


def train_words(config: Path, overrides: list[str] | None, output: Path | None = None) -> list[str]:
    """The command that trains what was checked."""
    return ["hbo", "train", str(config), *(overrides or []), *(["--output", str(output)] if output else [])]


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


def print_plan(read: Callable[[], RunConfig], words: list[str], *, offline: bool = False) -> None:
    """Shows what a run would do, the weightiest first, and the command that does it."""
    from hbo.check.plan import plan_of
    from hbo.data.notes import Note
    from hbo.report import terminal

    with warnings_kept() as kept:
        run = read()
        with bars() as track:
            plan = plan_of(run, offline=offline, track=track)
    tell(terminal.plan_title(plan))
    tell("")
    out.print(terminal.plan_table(plan))
    tell_part("", terminal.plan_reading(plan), indent=0)
    notes = [*(Note(text, is_warning=True) for text in kept), *plan["notes"], *terminal.plan_gaps(plan)]
    for kind, is_warning in (("warning", True), ("note", False)):
        _tell_notes(kind, [note.text for note in notes if note.is_warning == is_warning])
    tell("")
    tell_part("Cost", terminal.plan_costs(plan))
    for heading, line in zip(["Memory", *[""] * len(plan["memory"])], plan["memory"], strict=False):
        tell_part(heading, line)
    tell_part("Next", command=_next(run, words))


def _tell_notes(kind: str, texts: list[str]) -> None:
    told = list(dict.fromkeys(map(one_line, texts)))
    if told or kind == "warning":
        tell("")
        tell(f"{counted(len(told), kind)}:" if told else "no warnings")
    for number, text in enumerate(told, 1):
        tell_part(f"{number:>3}.", text, indent=5)


def _next(run: RunConfig, words: list[str]) -> str:
    return shlex.join(words if run.output or "--output" in words else [*words, "--output", "runs/first"])
