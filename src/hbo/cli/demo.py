"""`hbo demo`: all of hbo in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hbo.cli.console import tell
from hbo.cli.screen import bars
from hbo.cli.train import Overwrite, Resume, train_run


def demo_command(
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
    """Fine-tune a small model on four domains or eight languages.

    All of hbo in about ten minutes on two CPU cores; a GPU is used where torch finds one.
    """
    if build_tiny:
        from hbo.demo.tiny import build_all

        with bars() as track:
            told = build_all(track)
        tell(told)
        return
    from hbo.demo import demo_config

    with bars() as track:
        run = demo_config(output, setup=setup, method=method, steps=steps, seed=seed, track=track)
    train_run(run, resume=resume, overwrite=overwrite)
    tell(f"data    {Path(next(iter(run.mixture.datasets.values())).path).parent}")
