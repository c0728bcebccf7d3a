"""The command line: a file per command. Heavy imports stand inside the commands, so that `hbo --help` is quick."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from hbo import __version__
from hbo.cli import check, compare, demo, evaluate, init, replay, report, schema, score, train, watch
from hbo.cli.console import complain, console, out, show_warning
from hbo.compat import click
from hbo.errors import HBOError, Interrupted

app = typer.Typer(
    name="hbo",
    help="Fine-tune a language model on a mixture of datasets that balances itself while it trains.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(name="init")(init.init_command)
app.command(name="check")(check.check_command)
app.command(name="score")(score.score_command)
app.command(name="train")(train.train_command)
app.command(name="compare")(compare.compare_command)
app.command(name="eval")(evaluate.evaluate_command)
app.command(name="report")(report.report_command)
app.command(name="watch")(watch.watch_command)
app.command(name="replay")(replay.replay_command)
app.command(name="schema")(schema.schema_command)
app.command(name="demo")(demo.demo_command)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        out.print(f"hbo {__version__}", markup=False)
        raise typer.Exit
    if context.invoked_subcommand is None:
        out.print(context.get_help(), markup=False)
        raise typer.Exit


def main() -> None:
    """Entry point: an error of the user's is one sentence and exit code 2."""
    warnings.showwarning = show_warning
    # torch reads it at its first large allocation: huge pages on a CPU, where small ones cost a third of a step.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        if app(standalone_mode=False) == 130:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
    except Interrupted as stop:
        console.print(str(stop), soft_wrap=True, markup=False)
        sys.exit(stop.code)
    except HBOError as error:
        complain(str(error), 2)
    except click().exceptions.ClickException as error:
        complain(error.format_message(), 2)
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted", 130)
