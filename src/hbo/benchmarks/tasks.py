"""The tasks of the paper's two tables: what lm-eval calls them, their languages and the columns of their rows.

The paper names neither prompts nor lm-eval's names, so these are the harness's own for each benchmark; where it has
several, docs/evaluation.md says which and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hbo.errors import ConfigError
from hbo.text import nearest

LANGUAGES = ("en", "ar", "de", "es", "hi", "ru", "sw", "zh")
"""The paper's languages, in its order."""

TEXT, TEXT_OR_NULL, NUMBER, TEXTS = "a text", "a text or null", "a number", "a list of at least two texts"

OURS = Path(__file__).parent / "lm_eval_tasks"
"""Folder of the tasks that lm-eval doesn't know."""

Column = str | tuple[str | int, ...]
"""What a column may hold: one of the words above, the name of the list that it is a position in, or these values."""


@dataclass(frozen=True)
class Task:
    """A benchmark.

    Attributes:
        name: As given on the command line.
        languages: Language → what lm-eval calls the task in it. With `subject`, what its names begin with.
        columns: Columns that a row must have; none for a task that only lm-eval knows.
        metric: lm-eval's metric and filter; None: the first of its accuracies.
        folder: Where the task's YAML is: a folder of lm-eval's tasks, or a path.
        subject: Column of the subject, where lm-eval has a task for each.
    """

    name: str
    languages: Mapping[str, str]
    columns: Mapping[str, Column] = field(default_factory=dict)
    metric: str | None = "acc,none"
    folder: str = ""
    subject: str | None = None

    def file(self, language: str) -> str:
        """Where local rows are below `--data`, without the ending."""
        return f"{self.name}/{language}" if len(self.languages) > 1 else self.name


@dataclass(frozen=True)
class Preset:
    """The tasks of one of the paper's tables, and the key of their mean."""

    average: str
    tasks: tuple[str, ...]


def _in(pattern: str, languages: str) -> dict[str, str]:
    return {language: pattern.format(language) for language in languages.split()}


_LOCALES = {"ar": "ar_xy", "de": "de_de", "es": "es_la", "hi": "hi_in", "sw": "sw_ke", "zh": "zh_cn"}
_ABCD: Column = ("A", "B", "C", "D")
_STORY = {f"input_sentence_{i}": TEXT for i in range(1, 5)} | {"sentence_quiz1": TEXT, "sentence_quiz2": TEXT}

_ALL = (
    Task(
        "mmmlu",
        {language: f"mmmlu_{locale}" for language, locale in _LOCALES.items()},
        {"Question": TEXT, "A": TEXT, "B": TEXT, "C": TEXT, "D": TEXT, "Answer": _ABCD, "Subject": TEXT},
        folder="openai-mmmlu/default",
        subject="Subject",
    ),
    Task(
        "xcopa",
        _in("xcopa_{}", "sw zh"),
        {"premise": TEXT, "choice1": TEXT, "choice2": TEXT, "question": ("cause", "effect"), "label": (0, 1)},
        folder="xcopa",
    ),
    Task(
        "xstorycloze",
        _in("xstorycloze_{}", "en ar es hi ru sw zh"),
        {**_STORY, "answer_right_ending": (1, 2)},
        folder="xstorycloze",
    ),
    Task(
        "xnli",
        _in("xnli_{}", "en ar de es hi ru sw zh"),
        {"premise": TEXT, "hypothesis": TEXT, "label": (0, 1, 2)},
        folder="xnli",
    ),
    Task(
        "mgsm",
        _in("mgsm_direct_{}", "en de es ru sw zh"),
        {"question": TEXT, "answer": TEXT_OR_NULL, "answer_number": NUMBER},
        metric="exact_match,flexible-extract",
        folder="mgsm/direct",
    ),
    Task(
        "mmlu",
        {"en": "mmlu"},
        {"question": TEXT, "subject": TEXT, "choices": TEXTS, "answer": "choices"},
        folder="mmlu/default",
        subject="subject",
    ),
    Task(
        "multifin",
        {"en": "multifin_en"},
        {"text": TEXT, "choices": TEXTS, "gold": "choices"},
        folder=str(OURS),
    ),
    Task(
        "gsm8k",
        {"en": "gsm8k"},
        {"question": TEXT, "answer": TEXT},
        metric="exact_match,flexible-extract",
        folder="gsm8k",
    ),
    Task(
        "medmcqa",
        {"en": "medmcqa"},
        {"question": TEXT, "opa": TEXT, "opb": TEXT, "opc": TEXT, "opd": TEXT, "cop": (0, 1, 2, 3)},
        folder="medmcqa",
    ),
)
TASKS: Mapping[str, Task] = {task.name: task for task in _ALL}
PRESETS: Mapping[str, Preset] = {
    "multilingual": Preset("mu_ml", ("mmmlu", "xcopa", "xstorycloze", "xnli", "mgsm")),
    "multitask": Preset("mu_mt", ("mmlu", "multifin", "gsm8k", "medmcqa")),
}


def tasks_named(text: str) -> list[Task]:
    """The tasks in a list such as `multilingual,gsm8k`; a name that isn't ours is left to lm-eval.

    Raises:
        ConfigError: A name is missing, or nearly one of ours.

    Example:
        >>> [task.name for task in tasks_named("xcopa,multitask")]
        ['xcopa', 'mmlu', 'multifin', 'gsm8k', 'medmcqa']
    """
    found: dict[str, Task] = {}
    for name in (part.strip() for part in text.split(",")):
        if not name:
            raise ConfigError(f"--tasks '{text}' lacks a name; write such as --tasks multilingual,gsm8k")
        for each in PRESETS[name].tasks if name in PRESETS else (name,):
            found[each] = TASKS.get(each) or _foreign(each)
    return list(found.values())


def _foreign(name: str) -> Task:
    # Names of lm-eval may be near ours and right (xnli_de); one that differs by a letter or two is a slip.
    hint = nearest(name, [*PRESETS, *TASKS])
    if hint and "_" not in name:
        raise ConfigError(f"--tasks: there is no task '{name}'{hint}; presets are {', '.join(PRESETS)}")
    return Task(name, {"": name}, metric=None)
