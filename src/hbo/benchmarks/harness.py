"""lm-eval: its tasks, on the Hub's rows or local ones, and what a model gets in them."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hbo.benchmarks.local import Local, subject_of
from hbo.benchmarks.tasks import OURS, Task
from hbo.errors import ConfigError, DataError, ModelError
from hbo.scoring.limits import without_embedding
from hbo.text import first_line, nearest

_ACCURACIES = ("acc", "exact_match", "acc_norm")
# Nothing is drawn from them zero-shot, and local copies have none.
_NO_OTHER_SPLITS = {"training_split": None, "validation_split": None, "fewshot_split": None}


@dataclass(frozen=True)
class Graded:
    """The share of right answers among `n` rows, with its standard error over rows, NaN for a single row."""

    accuracy: float
    error: float
    n: int
    metric: str
    """lm-eval's name of what was averaged, and its filter."""


def require() -> None:
    """Sees that lm-eval is installed.

    Raises:
        ConfigError: It isn't.
    """
    try:
        import lm_eval  # noqa: F401
    except ImportError:
        raise ConfigError("evaluation needs lm-eval, which is not installed; run: pip install 'hbo[eval]'") from None
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it tells its developers of every default


class Harness:
    """lm-eval's tasks, found once.

    Raises:
        ConfigError: lm-eval isn't installed, or doesn't know one of them.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        require()
        import lm_eval.tasks

        home = Path(lm_eval.tasks.__file__).parent
        folders = [home / task.folder for task in tasks]
        if all(task.folder for task in tasks):
            self._manager = lm_eval.tasks.TaskManager(include_path=folders, include_defaults=False)
        else:  # all of lm-eval's tasks and ours, which take half a minute to read
            self._manager = lm_eval.tasks.TaskManager(include_path=[OURS])
        for task in tasks:
            for name in task.languages.values():
                if name not in self._manager.all_tasks:
                    hint = nearest(name, self._manager.all_tasks)
                    raise ConfigError(f"--tasks: neither hbo nor lm-eval has a task '{name}'{hint}")

    def load(self, task: Task, language: str, local: Local | None) -> dict[str, Any]:
        """lm-eval's tasks of one language, by name, ready to run on its `local` rows, or on those of the Hub.

        Raises:
            DataError: The rows can't be loaded, or used.
        """
        members = []
        for name, subject in self._names(task, language, local):
            member: dict[str, Any] = {"task": name, "num_fewshot": 0}
            if local:
                files = {"test": str(local.file)}
                member |= {**_NO_OTHER_SPLITS, "dataset_path": local.builder, "dataset_name": None}
                member |= {"test_split": "test", "dataset_kwargs": {"data_files": files}}
            if local and subject:
                member["process_docs"] = partial(_of_subject, column=str(task.subject), subject=subject)
            members.append(member)
        try:
            # A group, because only its members are taken for changes of a task that lm-eval knows.
            found = self._manager.load([{"group": f"hbo_{task.name}_{language}", "task": members}])
        except Exception as error:  # readers of foreign rows raise anything
            source = str(local.file) if local else "the Hugging Face Hub"
            remedy = "check its rows" if local else "check the network, or give local copies with --data FOLDER"
            where = f"task {task.name}{f' ({language})' if language else ''}"
            raise DataError(
                f"{where}: its rows can't be loaded from {source} ({first_line(error)[:300]}); {remedy}"
            ) from None
        return dict(found["tasks"])

    def _names(self, task: Task, language: str, local: Local | None) -> list[tuple[str, str | None]]:
        """What lm-eval calls the task in this language, with the subject of each part."""
        name = task.languages[language]
        if task.subject is None:
            return [(name, None)]
        parts = [part for part in self._manager.all_subtasks if part.startswith(f"{name}_")]
        if local is None:
            return [(part, None) for part in parts]
        for subject in local.subjects:
            if f"{name}_{subject}" not in parts:
                known = [part.removeprefix(f"{name}_") for part in parts]
                raise DataError(f"{local.file}: '{subject}' is not a subject of {task.name}{nearest(subject, known)}")
        return [(f"{name}_{subject}", subject) for subject in local.subjects]


def wrapped(model: Any, tokenizer: Any, batch_size: int) -> Any:
    """The loaded model as lm-eval takes it, an adapter on its base model too; it warns of what it has to cut.

    Raises:
        ModelError: When it is asked for a token that the model has no embedding of, or an answer beyond its positions.
    """
    from lm_eval.models.huggingface import HFLM

    known = model.get_input_embeddings().weight.shape[0]

    class Checked(HFLM):  # type: ignore[misc]
        def tok_encode(self, *args: Any, **options: Any) -> list[int]:
            ids: list[int] = super().tok_encode(*args, **options)
            if max(ids, default=0) >= known:
                told = without_embedding(max(ids), tokenizer, known, "the model")
                raise ModelError(f"a row of the task holds {told}")
            return ids

        def _loglikelihood_tokens(self, requests: Any, *args: Any, **options: Any) -> Any:
            _check_lengths([(len(asked), len(answer)) for _, asked, answer in requests], self.max_length)
            return super()._loglikelihood_tokens(requests, *args, **options)

    return Checked(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)


def _check_lengths(lengths: Sequence[tuple[int, int]], positions: int) -> None:
    """Warns of prompts that have to be cut; an answer can't be.

    Raises:
        ModelError: An answer is longer than the model has positions.
    """
    if (longest := max((answer for _, answer in lengths), default=0)) > positions:
        raise ModelError(f"an answer of the task has {longest} tokens, but the model has {positions} positions only")
    if cut := sum(asked + answer > positions + 1 for asked, answer in lengths):
        warnings.warn(
            f"{cut} of {len(lengths)} prompts of the task don't fit into the model's {positions} positions and lose "
            "their beginning",
            UserWarning,
            stacklevel=2,
        )


def measure(
    lm: Any, task: Task, parts: Mapping[str, Mapping[str, Any]], *, chat_template: bool, limit: int | None
) -> dict[str, Graded]:
    """Language → score, of all the rows of its parts.

    Args:
        lm: As `wrapped` makes it.
        task: Benchmark.
        parts: Language → lm-eval's tasks by name, as `load` gives them.
        chat_template: Whether prompts are a user's turn of the tokenizer's chat template.
        limit: Rows per part at most; None: all.

    Raises:
        ConfigError: lm-eval measures no accuracy in the task, or the batches are too large.
        DataError: A row can't be used.
    """
    import lm_eval

    every = {name: each for names in parts.values() for name, each in names.items()}
    try:
        found = lm_eval.evaluate(
            lm=lm,
            task_dict={"tasks": every, "groups": {}},
            limit=limit,
            log_samples=False,
            apply_chat_template=chat_template,
        )
    except torch.OutOfMemoryError:
        raise ConfigError(f"task {task.name}: the device is out of memory; give a smaller --batch-size") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DataError(f"task {task.name}: lm-eval can't use one of its rows ({first_line(error)[:300]})") from None
    return {language: _pooled([found["results"][name] for name in names], task) for language, names in parts.items()}


def _pooled(results: Sequence[Mapping[str, Any]], task: Task) -> Graded:
    """The score of several tasks' rows taken together, each row being right or wrong."""
    metric = task.metric or _accuracy_of(results[0], task)
    n = sum(int(result["sample_len"]) for result in results)
    right = sum(float(result[metric]) * int(result["sample_len"]) for result in results)
    accuracy = right / n
    # The sample variance of n zeros and ones.
    error = math.sqrt(max(accuracy * (1 - accuracy), 0.0) / (n - 1)) if n > 1 else math.nan
    return Graded(accuracy, error, n, metric)


def _accuracy_of(result: Mapping[str, Any], task: Task) -> str:
    names = [key for key in result if key.partition(",")[0] in _ACCURACIES]
    if not names:
        measured = ", ".join(key for key in result if "," in key and "_stderr" not in key)
        raise ConfigError(f"--tasks: lm-eval measures no accuracy in '{task.name}', only {measured}")
    return min(names, key=lambda key: _ACCURACIES.index(key.partition(",")[0]))


def _of_subject(rows: Any, *, column: str, subject: str) -> Any:
    return rows.filter(lambda row: subject_of(row[column]) == subject)
