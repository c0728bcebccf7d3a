"""`hbo compare`: a grid of runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hbo.cli.check import Config
from hbo.cli.console import complain, console, out, say, tell, tell_part
from hbo.cli.evaluate import BatchSize, ChatTemplate, DataFolder, Limit, for_grid

if TYPE_CHECKING:
    from hbo.compare.grid import Cell
    from hbo.compare.runner import EvalCommand


def compare_command(
    config: Config,
    output: Annotated[Path, typer.Option("--output", help="Folder of the grid.")],
    methods: Annotated[str | None, typer.Option("--methods", help="Such as hbo,proportional.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Such as 0,1,2.")] = "0",
    vary: Annotated[list[str] | None, typer.Option("--vary", help="key=v1,v2; may be given again.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Runs at once, each with a GPU, or its part of the CPU.")] = 1,
    launcher: Annotated[
        str | None, typer.Option("--launcher", help="What stands before each run, as 'torchrun --nproc-per-node 2 -m'.")
    ] = None,
    mixtures: Annotated[int | None, typer.Option("--mixtures", help="Search that many static mixtures first.")] = None,
    mixture_seeds: Annotated[int, typer.Option("--mixture-seeds", help="Seeds of each of them.")] = 1,
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
    from hbo.compare.headroom import Headroom
    from hbo.compare.launcher import launcher_of
    from hbo.compare.publish import headroom_part, publish_results, tabulated
    from hbo.compare.runner import run_grid
    from hbo.compare.search import already_found, finished_runs, judged_cells, planned, references, settled
    from hbo.compare.terminal_table import comparison_table
    from hbo.compare.verdict import verdict

    starts_with = launcher_of(launcher, jobs)
    static, fresh = references(methods or None, vary or (), mixtures), seed_numbers(seeds)
    grid = asked = cells(config, (methods or "uniform").split(","), fresh, vary or (), output)
    evaluation = for_grid(tasks, data, chat_template, limit, batch_size)
    search = planned(config, mixtures, mixture_seeds, fresh, output) if mixtures is not None else None
    found = already_found(search, output) if search else None
    if search and (found or dry_run):
        grid = judged_cells(asked, config, static, found.weights if found else search.even, output)
    if dry_run:
        for line in (*(search.lines() if search else ()), *plan([*(search.cells if search else ()), *grid])):
            out.print(line, markup=False)
        if starts_with:
            words = starts_with.command(["train"], beside_others=jobs > 1)
            out.print(f"each is started by {shlex.join(words)} …", markup=False)
        if tasks:
            out.print(f"each is evaluated on {tasks}", markup=False)
        return

    def headroom() -> Headroom | None:
        if search is None:
            return None
        runs = found.runs if found else finished_runs(search)
        return Headroom(runs, len(search.cells), found, sum(cell.is_finished for cell in search.cells) - len(runs))

    def publish() -> None:
        publish_results(grid, output, headroom())

    def run(part: list[Cell], evaluated: EvalCommand | None = None) -> int:
        with grid_screen(console) as show:
            return run_grid(part, output, publish, say, evaluated, jobs=jobs, show=show, launcher=starts_with)

    # Of a search that has ended only what is still there is looked at: its configuration must be this one.
    part = [cell for cell in search.cells if cell.is_finished or not found] if search else []
    failed = run(part) if part else 0
    if search and not failed:
        found = settled(search, output)
        grid = judged_cells(asked, config, static, found.weights, output)
    if not failed:
        part, failed = grid, run(grid, evaluation)
    table, told = tabulated(grid), headroom_part(headroom(), grid)
    if table:
        tell("")
        out.print(comparison_table(table))
        tell("")
        for note in table.notes:
            tell_part("Note", note)
    if told:
        tell_part("Headroom", " ".join(told.sentences))
    if not table or not told or table.judged:
        tell_part("Verdict", verdict(table))
    tell_part("Page", str(output / "comparison.html"))
    tell_part("Table", str(output / "comparison.md"))
    if failed:
        for line in failures(part, evaluation.is_done if evaluation and part is grid else None):
            say(f"failed: {line}")
        complain(f"{failed} of {len(part)} runs failed; the same command tries them again", 1)
