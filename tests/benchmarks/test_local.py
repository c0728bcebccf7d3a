"""Local rows: found by name, and refused by line."""

import pytest
from local_rows import mmlu, mmmlu, multifin, write_rows, xcopa

from hbo.benchmarks.local import local_rows
from hbo.benchmarks.tasks import PRESETS, TASKS, tasks_named
from hbo.errors import DataError


def test_every_task_finds_its_rows_in_every_language(data):
    for preset in PRESETS.values():
        for name in preset.tasks:
            assert set(local_rows(data, TASKS[name])) == set(TASKS[name].languages)


def test_subjects_are_read_from_the_rows(data):
    assert local_rows(data, TASKS["mmmlu"])["sw"].subjects == ("anatomy", "abstract_algebra")
    assert local_rows(data, TASKS["mmlu"])["en"].subjects == ("anatomy", "virology")


@pytest.mark.parametrize(
    ("task", "row", "said"),
    [
        ("xcopa", {**xcopa("a", "cause", 2)}, "line 1: column 'label' is '2'; it must be 0 or 1"),
        ("xcopa", {**xcopa("a", "reason", 1)}, "'question' is 'reason'; it must be cause or effect"),
        ("xcopa", {**xcopa("a", "cause", True)}, "'label' is 'True'"),
        ("xcopa", {**xcopa(None, "cause", 1)}, "'premise' is 'None'; it must be a text"),
        ("xcopa", {"premise": "a"}, "has no column 'choice1'; rows of xcopa need premise, choice1"),
        ("mmmlu", mmmlu("a", "E"), "'Answer' is 'E'; it must be A or B or C or D"),
        ("mmlu", mmlu("a", 4, "anatomy"), "'answer' is '4'; it must be a position in 'choices', from 0"),
        ("mmlu", {**mmlu("a", 1, "anatomy"), "choices": "abcd"}, "a list of at least two texts"),
        ("multifin", multifin("a", 1.0), "'gold' is '1.0'"),
    ],
)
def test_a_row_that_the_task_cannot_use_is_named(tmp_path, task, row, said):
    language = next(iter(TASKS[task].languages))
    write_rows(tmp_path / f"{TASKS[task].file(language)}.jsonl", row)
    with pytest.raises(DataError) as caught:
        local_rows(tmp_path, TASKS[task])
    assert said in str(caught.value)


def test_what_is_missing_is_named(tmp_path, data):
    with pytest.raises(DataError, match=r"no such folder"):
        local_rows(tmp_path / "none", TASKS["xnli"])
    with pytest.raises(DataError, match=r"no rows of task 'xnli' \(such as xnli/en.jsonl or xnli/en.parquet\)"):
        local_rows(tmp_path, TASKS["xnli"])
    with pytest.raises(DataError, match="no layout for lm-eval's task 'xnli_de'"):
        local_rows(data, tasks_named("xnli_de")[0])
    write_rows(tmp_path / "gsm8k.jsonl")
    with pytest.raises(DataError, match="holds no rows; remove the file"):
        local_rows(tmp_path, TASKS["gsm8k"])
    (tmp_path / "gsm8k.parquet").touch()
    with pytest.raises(DataError, match="keep one of them"):
        local_rows(tmp_path, TASKS["gsm8k"])
