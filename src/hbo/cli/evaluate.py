"""`hbo eval`, and what `hbo compare --eval` passes on to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hbo.cli.console import out, say, tell
from hbo.cli.screen import bars
from hbo.errors import ConfigError

if TYPE_CHECKING:
    from hbo.compare.runner import EvalCommand

DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Folder with local copies of the tasks' rows; absent: the Hub's.")
]
ChatTemplate = Annotated[
    bool, typer.Option("--chat-template/--no-chat-template", help="Prompts as a user's turn of the chat template.")
]
Limit = Annotated[int | None, typer.Option("--limit", help="Rows per task and language at most, for a try.")]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Rows at once.")]


def evaluate_command(
    name: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="Run folder, or what `model:` accepts.")],
    tasks: Annotated[
        str, typer.Option("--tasks", help="multilingual, multitask, or names of tasks, separated by commas.")
    ],
    data: DataFolder = None,
    output: Annotated[Path | None, typer.Option("--output", help="Results; absent: RUN/eval.json.")] = None,
    chat_template: ChatTemplate = False,
    limit: Limit = None,
    batch_size: BatchSize = 8,
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin the file of results anew.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model brings; a run has it from its train:.")
    ] = False,
) -> None:
    """Evaluate a run or a model on benchmarks, zero-shot.

    lm-eval does the work: pip install 'hbo[eval]'.
    """
    from hbo.benchmarks.harness import require

    require()
    from hbo.benchmarks.evaluate import Options
    from hbo.benchmarks.evaluate import evaluate as run
    from hbo.demo.names import model_path
    from hbo.folder.benchmarks import Evaluation
    from hbo.report.terminal import evaluation_table

    options = Options(tasks, data, output, chat_template, limit, batch_size, dtype, overwrite, trust_remote_code)
    with bars() as track:
        file = run(model_path(name), options, track=track, say=say)
    if found := Evaluation.read(file):
        out.print(evaluation_table(found))
    tell(f"results {file}")


def for_grid(
    tasks: str | None, data: Path | None, chat_template: bool, limit: int | None, batch_size: int
) -> EvalCommand | None:
    """How the cells of a grid are evaluated, checked before anything is trained; None if they aren't.

    Raises:
        ConfigError: lm-eval isn't installed, a task's name is unknown, or an option goes with --eval only.
        DataError: Local rows are missing, or can't be used.
    """
    if tasks is None:
        for option, given in (("--data", data), ("--chat-template", chat_template), ("--limit", limit)):
            if given:
                raise ConfigError(f"{option} says how to evaluate; give --eval with it, such as --eval multitask")
        return None
    from hbo.benchmarks.harness import require
    from hbo.compare.runner import EvalCommand

    require()
    from hbo.benchmarks.evaluate import Options, is_done, tasks_and_rows

    options = Options(tasks, data, None, chat_template, limit, batch_size)
    tasks_and_rows(options)
    words = ["--tasks", tasks, "--batch-size", str(batch_size)]
    words += ["--data", str(data.absolute())] if data else []
    words += ["--limit", str(limit)] if limit is not None else []
    words += ["--chat-template"] if chat_template else []
    return EvalCommand(words, lambda run: is_done(run, options))
