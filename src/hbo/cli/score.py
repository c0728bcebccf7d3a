"""`hbo score`: the difficulty of every row, as a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hbo.cli.check import Config, Overrides, load_run
from hbo.cli.console import out, tell
from hbo.cli.screen import bars


def score_command(
    config: Config,
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option("--output", help="Parquet file to write.")] = Path("scores.parquet"),
) -> None:
    """Score how hard every row of CONFIG's mixture is.

    The scores are written to a Parquet file.
    """
    from hbo.report.terminal import quantiles_table
    from hbo.run.scored_rows import write_scores

    run = load_run(config, overrides)
    with bars() as track:
        spread, cached = write_scores(run, output, track=track)
    out.print(quantiles_table(spread, run.difficulty.metric))
    tell(f"scores {'read from the cache and ' if cached else ''}written to {output}")
