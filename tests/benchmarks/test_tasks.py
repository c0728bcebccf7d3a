"""The table of tasks: the paper's, and known to lm-eval."""

import pytest

from hbo.benchmarks.harness import Harness
from hbo.benchmarks.tasks import LANGUAGES, PRESETS, TASKS, tasks_named
from hbo.errors import ConfigError


def test_the_presets_are_the_papers_nine_tasks():
    assert PRESETS["multilingual"].tasks == ("mmmlu", "xcopa", "xstorycloze", "xnli", "mgsm")
    assert PRESETS["multitask"].tasks == ("mmlu", "multifin", "gsm8k", "medmcqa")
    assert set(TASKS) == {name for preset in PRESETS.values() for name in preset.tasks}


def test_languages_are_the_papers_where_the_task_has_them():
    spoken = {name: list(TASKS[name].languages) for name in PRESETS["multilingual"].tasks}
    assert spoken["xnli"] == list(LANGUAGES)
    assert set(spoken["xstorycloze"]) == set(LANGUAGES) - {"de"}
    assert set(spoken["mgsm"]) == set(LANGUAGES) - {"ar", "hi"}
    assert set(spoken["mmmlu"]) == set(LANGUAGES) - {"en", "ru"}
    assert spoken["xcopa"] == ["sw", "zh"]


def test_lm_eval_knows_every_task_in_every_language():
    harness = Harness(list(TASKS.values()))
    names = harness._names(TASKS["mmlu"], "en", None)
    assert len(names) == 57
    assert {len(harness._names(TASKS["mmmlu"], language, None)) for language in TASKS["mmmlu"].languages} == {57}


def test_presets_and_tasks_are_joined_and_named_once():
    assert [task.name for task in tasks_named("gsm8k, multitask,xcopa")] == [
        "gsm8k",
        "mmlu",
        "multifin",
        "medmcqa",
        "xcopa",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [("multilingal", "did you mean 'multilingual'"), ("xnli,", "lacks a name"), ("gsm8", "did you mean 'gsm8k'")],
)
def test_a_slip_is_named(text, said):
    with pytest.raises(ConfigError, match=said):
        tasks_named(text)
