"""`hbo eval`: a model, some tasks, and the file that their results go to."""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from hbo import __version__
from hbo.benchmarks import harness, results
from hbo.benchmarks.local import Local, local_rows
from hbo.benchmarks.subject import Subject, device, find_subject, load_subject
from hbo.benchmarks.tasks import Task, tasks_named
from hbo.errors import ConfigError
from hbo.folder.benchmarks import Evaluation
from hbo.folder.paths import EVALUATION, LEDGER, MODEL_FOLDER
from hbo.progress import Track, silent
from hbo.report.page import write_report
from hbo.run.model import quiet_libraries

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Options:
    """How to evaluate, as on the command line."""

    tasks: str
    """Presets and names of tasks, separated by commas."""
    data: Path | None = None
    """Folder of local rows; None: the Hub's."""
    output: Path | None = None
    """File of the results; None: eval.json in the run's folder, or here for a model that is no run's."""
    chat_template: bool = False
    limit: int | None = None
    """Rows per task, language and subject at most; None: all."""
    batch_size: int = 8
    dtype: str = "auto"
    """Of the weights; `auto`: bfloat16 on an accelerator, float32 on a CPU."""
    overwrite: bool = False
    trust_remote_code: bool = False


def evaluate(name: str, options: Options, *, track: Track = silent, say: Callable[[str], None] = print) -> Path:
    """The file that was written; each task's results are in it as soon as they are known.

    Args:
        name: A run's folder, a model folder, a Hub name, or whatever else `model:` accepts.
        options: How to evaluate.
        track: Hears of the model being fetched.
        say: Hears one line per task.

    Raises:
        HBOError: Whatever the user can mend; the tasks that were finished before are kept.
    """
    tasks, loader, rows = tasks_and_rows(options)
    subject = find_subject(name, trust_remote_code=options.trust_remote_code)
    file = options.output or (subject.run / EVALUATION if subject.run else Path(EVALUATION))
    _check_place(file)
    held = results.opened(file, _shown(subject, options), _settings(options), overwrite=options.overwrite)
    wanted = [task for task in tasks if task.name not in held.tasks]
    for task in tasks:
        if task not in wanted:
            say(f"{task.name}: already in {file}; give --overwrite to start the file again")
    if wanted:
        quiet_libraries()
        model, tokenizer = load_subject(subject, _dtype(options.dtype), track=track)
        if options.chat_template and not tokenizer.chat_template:
            raise ConfigError(
                f"--chat-template: the tokenizer of '{subject.model}' has no chat template; leave the option out"
            )
        lm = harness.wrapped(model, tokenizer, options.batch_size)
        made_with = {"base_model": subject.base, "environment": _environment(options.batch_size)}
        held = held.model_copy(update=made_with)
    for task in wanted:
        say(f"{task.name}: evaluating")
        start, here = time.perf_counter(), rows[task.name]
        parts = {language: loader.load(task, language, here.get(language)) for language in here or task.languages}
        scores = harness.measure(lm, task, parts, chat_template=options.chat_template, limit=options.limit)
        held = results.with_task(held, task.name, results.task_result(scores, time.perf_counter() - start))
        held.write(file)
    if subject.run and not options.output and (subject.run / LEDGER).is_file():
        write_report(subject.run)
    return file


def is_done(run: Path, options: Options) -> bool:
    """Whether the run's eval.json has all the tasks, under these very settings.

    Raises:
        DataError: It is no eval.json.
    """
    found = Evaluation.read(run / EVALUATION)
    names = {task.name for task in tasks_named(options.tasks)}
    return found is not None and found.asked == _settings(options) and names <= set(found.tasks)


def _settings(options: Options) -> dict[str, Any]:
    return {
        "num_fewshot": 0,
        "chat_template": options.chat_template,
        "limit": options.limit,
        "data": str(options.data.absolute()) if options.data else None,
        "dtype": str(_dtype(options.dtype)).removeprefix("torch."),
    }


def tasks_and_rows(options: Options) -> tuple[list[Task], harness.Harness, dict[str, dict[str, Local]]]:
    """The tasks, what loads them, and their local rows by task and language; no task has any without a folder.

    Raises:
        ConfigError: An option can't be used, lm-eval isn't installed, or a task is unknown.
        DataError: Local rows are missing, or can't be used.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("hbo eval runs in one process; start it without torchrun or accelerate launch")
    for name, value in (("--limit", options.limit), ("--batch-size", options.batch_size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; it must be at least 1")
    if options.dtype not in DTYPES:
        raise ConfigError(f"--dtype '{options.dtype}' is unknown; choose one of {', '.join(DTYPES)}")
    tasks = tasks_named(options.tasks)
    return tasks, harness.Harness(tasks), {task.name: _local(task, options.data) for task in tasks}


def _shown(subject: Subject, options: Options) -> str:
    """The model as eval.json names it; a run's as the folder beside the file, so that runs can be moved."""
    if subject.run and not options.output:
        return MODEL_FOLDER
    return str(Path(subject.model).absolute()) if Path(subject.model).exists() else subject.model


def _check_place(file: Path) -> None:
    """Sees that the file can be written, before hours of evaluation."""
    try:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(file.parent, os.W_OK):
            raise PermissionError(errno.EACCES, "no permission, or a read-only file system")
    except OSError as error:
        raise ConfigError(
            f"{file}: can't be written ({error.strerror}); give --output the name of another file"
        ) from None


def _local(task: Task, folder: Path | None) -> dict[str, Local]:
    """Language → local rows; empty without a folder."""
    if folder is None:
        return {}
    found = local_rows(folder, task)
    if missing := [language for language in task.languages if language not in found]:
        warnings.warn(
            f"task {task.name}: {folder} has no rows in {', '.join(missing)}; its mean is over {', '.join(found)} only",
            UserWarning,
            stacklevel=2,
        )
    return found


def _dtype(name: str) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device().type == "cpu" else torch.bfloat16
    return getattr(torch, name)  # type: ignore[no-any-return]


def _environment(batch_size: int) -> dict[str, str | int]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": str(device()),
        "batch_size": batch_size,
        "hbo": __version__,  # a checkout need not be installed
        **{name: version(name) for name in ("lm_eval", "torch", "transformers", "peft", "datasets")},
    }
