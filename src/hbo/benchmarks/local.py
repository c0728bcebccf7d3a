"""`--data FOLDER`: local copies of the tasks' rows, checked column by column before anything runs.

FOLDER/xnli/sw.jsonl      a task in several languages: a file for each
FOLDER/gsm8k.parquet      a task in one language
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbo.benchmarks.tasks import NUMBER, TEXT, TEXT_OR_NULL, TEXTS, Column, Task
from hbo.data.files import read_file
from hbo.errors import DataError

_BUILDERS = {".jsonl": "json", ".parquet": "parquet"}


@dataclass(frozen=True)
class Local:
    """The local rows of a task in one language."""

    file: Path
    subjects: tuple[str, ...]
    """Those that occur, in the order of the file; empty for a task without subjects."""

    @property
    def builder(self) -> str:
        """What `datasets` calls the kind of file."""
        return _BUILDERS[self.file.suffix]


def local_rows(folder: Path, task: Task) -> dict[str, Local]:
    """Language → its rows, for the languages that `folder` has rows of.

    Raises:
        DataError: There is no such folder, none of the task's files, or a row that the task can't use.
    """
    if not folder.is_dir():
        raise DataError(f"--data {folder}: no such folder; give the one that holds local copies of the tasks' rows")
    if not task.columns:
        raise DataError(f"--data has no layout for lm-eval's task '{task.name}'; evaluate it without --data")
    found = {}
    for language in task.languages:
        files = [folder / f"{task.file(language)}{ending}" for ending in _BUILDERS]
        files = [file for file in files if file.is_file()]
        if len(files) > 1:
            raise DataError(f"{files[0]} and {files[1].name} hold the same task; keep one of them")
        if files:
            found[language] = Local(files[0], _checked(files[0], task))
    if not found:
        wanted = " or ".join(f"{task.file(next(iter(task.languages)))}{ending}" for ending in _BUILDERS)
        raise DataError(f"--data {folder}: holds no rows of task '{task.name}' (such as {wanted})")
    return found


def subject_of(name: str) -> str:
    """A subject as lm-eval's tasks are named after; the Hub's files add their own name to some.

    Example:
        >>> subject_of("anatomy_test.csv_sw-KE.csv")
        'anatomy'
    """
    return name.partition("_test")[0]


def _checked(file: Path, task: Task) -> tuple[str, ...]:
    subjects: dict[str, None] = {}
    count = 0
    for row, where in read_file(file):
        for column, kind in task.columns.items():
            if column not in row:
                raise DataError(
                    f"{where}: has no column '{column}'; rows of {task.name} need {', '.join(task.columns)}"
                )
            if (wanted := _refusal(row[column], kind, row)) is not None:
                raise DataError(f"{where}: column '{column}' is {str(row[column])[:40]!r}; it must be {wanted}")
        if task.subject:
            subjects[subject_of(row[task.subject])] = None
        count += 1
    if not count:
        raise DataError(f"{file}: holds no rows; remove the file, or add rows")
    return tuple(subjects)


def _refusal(value: Any, kind: Column, row: Mapping[str, Any]) -> str | None:
    """What `value` ought to be, if it isn't."""
    if isinstance(kind, tuple):
        right = any(value == each and isinstance(value, type(each)) and value is not True for each in kind)
        return None if right else " or ".join(map(str, kind))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == TEXT:
        right = isinstance(value, str) and bool(value.strip())
    elif kind == TEXT_OR_NULL:
        right = value is None or isinstance(value, str)
    elif kind == NUMBER:
        right = number
    elif kind == TEXTS:
        right = isinstance(value, list) and len(value) > 1 and all(isinstance(each, str) for each in value)
    else:
        right = number and isinstance(value, int) and value in range(len(row[kind]))
        kind = f"a position in '{kind}', from 0"
    return None if right else kind
