"""The command line. Heavy imports stand inside the commands, so that `hbo --help` is quick."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hbo import __version__
from hbo.cli import evaluate as evaluate_command
from hbo.cli import init as init_command
from hbo.cli import watch as watch_command
from hbo.cli.screen import bars, console, one_line, out, say
from hbo.errors import ConfigError, HBOError, Interrupted, visible

if TYPE_CHECKING:
    from hbo.config import RunConfig

app = typer.Typer(
    name="hbo",
    help="Fine-tune a language model on a mixture of datasets that balances itself while it trains.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as balance.probes=8.")]
Output = Annotated[Path | None, typer.Option("--output", help="Run folder; replaces `output:`.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the folder's last checkpoint.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        out.print(context.get_help(), markup=False)
        raise typer.Exit


app.command(name="init")(init_command.init)


@app.command()
def check(config: Config, overrides: Overrides = None) -> None:
    """Say whether CONFIG can run, and what it would do."""
    _print_plan(_load(config, overrides, None))


@app.command()
def score(
    config: Config,
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option("--output", help="Parquet file to write.")] = Path("scores.parquet"),
) -> None:
    """Score the difficulty of every row of CONFIG's mixture and write it to a Parquet file."""
    from hbo.report.terminal import quantiles_table
    from hbo.run.scored_rows import write_scores

    run = _load(config, overrides, None)
    with bars() as track:
        spread, cached = write_scores(run, output, track=track)
    out.print(quantiles_table(spread, run.difficulty.metric))
    out.print(f"scores {'read from the cache and ' if cached else ''}written to {output}", soft_wrap=True, markup=False)


@app.command()
def train(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done; no network.")] = False,
) -> None:
    """Fine-tune as CONFIG says."""
    if dry_run:
        _print_plan(_load(config, overrides, output, offline=True), offline=True)
        return
    _train(_load(config, overrides, output), resume=resume, overwrite=overwrite)


@app.command()
def compare(
    config: Config,
    methods: Annotated[str, typer.Option("--methods", help="Such as hbo,proportional.")],
    output: Annotated[Path, typer.Option("--output", help="Folder of the grid.")],
    seeds: Annotated[str, typer.Option("--seeds", help="Such as 0,1,2.")] = "0",
    vary: Annotated[list[str] | None, typer.Option("--vary", help="key=v1,v2; may be given again.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the runs.")] = False,
    tasks: Annotated[str | None, typer.Option("--eval", help="Evaluate each run on these tasks of hbo eval.")] = None,
    data: evaluate_command.Data = None,
    chat_template: evaluate_command.ChatTemplate = False,
    limit: evaluate_command.Limit = None,
    batch_size: evaluate_command.BatchSize = 8,
) -> None:
    """Run every method with every seed on CONFIG's mixture, and compare them."""
    from hbo.compare.grid import cells, plan, seed_numbers
    from hbo.compare.publish import publish_results
    from hbo.compare.runner import run_grid

    grid = cells(config, methods.split(","), seed_numbers(seeds), vary or (), output)
    evaluation = evaluate_command.for_grid(tasks, data, chat_template, limit, batch_size)
    if dry_run:
        for line in plan(grid):
            out.print(line, markup=False)
        if tasks:
            out.print(f"each is evaluated on {tasks}", markup=False)
        return
    failed = run_grid(grid, output, lambda: publish_results(grid, output), say, evaluation)
    for name in ("comparison.md", "comparison.html"):
        out.print(str(output / name), soft_wrap=True, markup=False)
    if failed:
        _complain(f"{failed} of {len(grid)} runs failed; the same command tries them again", 1)


app.command(name="eval")(evaluate_command.evaluate)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN [RUN]...", help="Run folders.")],
    output: Annotated[Path | None, typer.Option("--output", help="HTML file; absent: RUN/report.html.")] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Folder for PNG and SVG of the probabilities over training.")
    ] = None,
) -> None:
    """Write the page that shows what a run did, or several runs side by side."""
    from hbo.report.page import write_reports

    written = []
    if figures is not None:
        # First what may lack a library, so that a command that fails leaves nothing behind.
        from hbo.report.paper_figures import write_figures

        written = write_figures(runs, figures)
    if output is not None or figures is None or len(runs) == 1:
        written.insert(0, write_reports(runs, output))
    for path in written:
        out.print(str(path), soft_wrap=True, markup=False)


app.command(name="watch")(watch_command.watch)


@app.command()
def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    step: Annotated[int, typer.Option("--step", help="Optimizer step, from 1.")],
) -> None:
    """Print the very rows that a step of RUN was trained on, as JSON lines."""
    from hbo.run.replay import rows_of_step

    for line in rows_of_step(run, step):
        out.print(line, soft_wrap=True, markup=False)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", help="Run folder.")] = Path("runs/demo"),
    setup: Annotated[str, typer.Option("--setup", help="multitask or multilingual.")] = "multitask",
    method: Annotated[str, typer.Option("--method", help="Balancing method.")] = "hbo",
    steps: Annotated[int | None, typer.Option("--steps", help="Optimizer steps.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the run.")] = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    build_tiny: Annotated[
        bool, typer.Option("--build-tiny", help="Only build the model demo:tiny and write its datasets.")
    ] = False,
) -> None:
    """Fine-tune a real small model on four domains or in eight languages: all of hbo in a few minutes on a CPU."""
    if build_tiny:
        _build_tiny()
        return
    from hbo.demo import demo_config

    with bars() as track:
        run = demo_config(output, setup=setup, method=method, steps=steps, seed=seed, track=track)
    _train(run, resume=resume, overwrite=overwrite)
    folder = Path(next(iter(run.mixture.datasets.values())).path).parent
    out.print(f"data    {folder}", soft_wrap=True, markup=False)


def main() -> None:
    """Entry point: an error of the user's is one sentence and exit code 2."""
    warnings.showwarning = one_line
    # torch reads it at its first large allocation: huge pages on a CPU, where small ones cost a third of a step.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        if app(standalone_mode=False) == 130:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
    except Interrupted as stop:
        console.print(str(stop), soft_wrap=True, markup=False)
        sys.exit(stop.code)
    except HBOError as error:
        _complain(str(error), 2)
    except typer._click.exceptions.ClickException as error:
        _complain(error.format_message(), 2)
    except KeyboardInterrupt:
        _complain("interrupted", 130)


def _complain(message: str, code: int) -> None:
    console.print(f"error: {' '.join(visible(message).split())}", soft_wrap=True, markup=False)
    sys.exit(code)


def _load(config: Path, overrides: list[str] | None, output: Path | None, *, offline: bool = False) -> RunConfig:
    from hbo.config import file as config_file

    run = config_file.load(config, overrides or ())
    if "demo:" in str(run):
        from hbo.demo import names

        with bars() as track:
            run = names.with_sizes(run) if offline and not names.is_built(run) else names.fill_in(run, track=track)
    return run if output is None else run.model_copy(update={"output": str(output)})


def _train(run: RunConfig, *, resume: bool, overwrite: bool) -> None:
    if run.output is None:
        raise ConfigError("there is no output folder; set output: in the configuration or give --output")
    from hbo.folder.paths import METRICS, REPORT
    from hbo.folder.records import read_object
    from hbo.report.terminal import metrics_table
    from hbo.run.train import train as run_training

    with bars() as track:
        folder = run_training(run, resume=resume, overwrite=overwrite, track=track, say=say)
    out.print(metrics_table(read_object(folder / METRICS) or {}))
    out.print(f"run     {folder}\nreport  {folder / REPORT}", soft_wrap=True, markup=False)


def _build_tiny() -> None:
    from hbo.demo.tiny import build_all

    with bars() as track:
        told = build_all(track)
    out.print(told, soft_wrap=True, markup=False)


def _print_plan(run: RunConfig, *, offline: bool = False) -> None:
    from hbo.check.plan import plan_of
    from hbo.report import terminal

    with bars() as track:
        plan = plan_of(run, offline=offline, track=track)
    out.print(terminal.plan_title(plan), soft_wrap=True, markup=False)
    out.print(terminal.plan_table(plan))
    for note in terminal.plan_notes(plan):
        out.print(note, soft_wrap=True, markup=False)
