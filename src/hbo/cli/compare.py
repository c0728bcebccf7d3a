"""`hbo compare`: a grid of runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hbo.cli.check import Config
from hbo.cli.console import complain, console, out, say, tell, tell_part
from hbo.cli.evaluate import BatchSize, ChatTemplate, DataFolder, Limit, for_grid


def compare_command(
    config: Config,
    methods: Annotated[str, typer.Option("--methods", help="Such as hbo,proportional.")],
    output: Annotated[Path, typer.Option("--output", help="Folder of the grid.")],
    seeds: Annotated[str, typer.Option("--seeds", help="Such as 0,1,2.")] = "0",
    vary: Annotated[list[str] | None, typer.Option("--vary", help="key=v1,v2; may be given again.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Runs at once, each with a GPU, or its part of the CPU.")] = 1,
    launcher: Annotated[
        str | None, typer.Option("--launcher", help="What stands before each run, as 'torchrun --nproc-per-node 2 -m'.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the runs.")] = False,
    tasks: Annotated[str | None, typer.Option("--eval", help="Evaluate each run on these tasks of hbo eval.")] = None,
    data: DataFolder = None,
    chat_template: ChatTemplate = False,
    limit: Limit = None,
    batch_size: BatchSize = 8,
) -> None:
    """Train CONFIG with several methods and seeds, and compare them."""
    from hbo.cli.grid_screen import grid_screen
    from hbo.compare.failures import failures
    from hbo.compare.grid import cells, plan, seed_numbers
    from hbo.compare.launcher import launcher_of
    from hbo.compare.publish import publish_results, tabulated
    from hbo.compare.runner import run_grid
    from hbo.compare.terminal_table import comparison_table
    from hbo.compare.verdict import verdict

    starts_with = launcher_of(launcher)
    grid = cells(config, methods.split(","), seed_numbers(seeds), vary or (), output)
    evaluation = for_grid(tasks, data, chat_template, limit, batch_size)
    if dry_run:
        for line in plan(grid):
            out.print(line, markup=False)
        if starts_with:
            words = starts_with.command(["train"], beside_others=jobs > 1)
            out.print(f"each is started by {shlex.join(words)} …", markup=False)
        if tasks:
            out.print(f"each is evaluated on {tasks}", markup=False)
        return
    with grid_screen(console) as show:
        failed = run_grid(
            grid,
            output,
            lambda: publish_results(grid, output),
            say,
            evaluation,
            jobs=jobs,
            show=show,
            launcher=starts_with,
        )
    table = tabulated(grid)
    if table:
        tell("")
        out.print(comparison_table(table))
        tell("")
    tell_part("Verdict", verdict(table))
    tell_part("Page", str(output / "comparison.html"))
    tell_part("Table", str(output / "comparison.md"))
    if failed:
        for line in failures(grid, evaluation.is_done if evaluation else None):
            say(f"failed: {line}")
        complain(f"{failed} of {len(grid)} runs failed; the same command tries them again", 1)
