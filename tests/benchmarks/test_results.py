"""eval.json: means, errors, and what may be put beside what."""

import json
import math

import pytest

from hbo.benchmarks import results
from hbo.benchmarks.harness import Graded
from hbo.benchmarks.tasks import PRESETS
from hbo.errors import ConfigError, DataError
from hbo.folder.benchmarks import Measure


def graded(*scores):
    return {language: Graded(*score, "acc,none") for language, score in zip(("sw", "zh"), scores, strict=True)}


def test_a_tasks_mean_counts_every_language_the_same():
    found = results.task_result(graded((0.2, 0.03, 1000), (0.6, 0.04, 10)), 2.0)
    assert found.accuracy == pytest.approx(0.4)
    assert found.error == pytest.approx(0.05 / 2)
    assert found.n == 1010
    assert json.loads(found.to_json())["languages"]["zh"] == {"accuracy": 0.6, "standard_error": 0.04, "n": 10}


def test_an_unknown_error_makes_the_means_unknown():
    found = json.loads(results.task_result(graded((1.0, math.nan, 1), (0.0, 0.1, 9)), 1.0).to_json())
    assert (found["accuracy"], found["standard_error"]) == (0.5, None)
    assert list(found) == ["accuracy", "standard_error", "n", "metric", "languages", "seconds"]


def test_the_papers_means_need_all_their_tasks():
    tasks = {name: Measure(accuracy=i / 10, error=0.1) for i, name in enumerate(PRESETS["multilingual"].tasks)}
    (mean,) = results.papers_means(tasks).values()
    assert (mean.accuracy, mean.error) == (pytest.approx(0.2), pytest.approx(0.1 * math.sqrt(5) / 5))
    del tasks["mgsm"]
    assert results.papers_means(tasks) == {}


def test_results_of_other_settings_or_models_are_not_mixed(tmp_path):
    file = tmp_path / "eval.json"
    results.opened(file, "model", {"chat_template": False}, overwrite=False).write(file)
    assert results.opened(file, "model", {"chat_template": False}, overwrite=False).model == "model"
    with pytest.raises(ConfigError, match="holds results with chat_template false, not true"):
        results.opened(file, "model", {"chat_template": True}, overwrite=False)
    with pytest.raises(ConfigError, match="holds results of the model 'model'"):
        results.opened(file, "other", {"chat_template": False}, overwrite=False)
    assert results.opened(file, "other", {}, overwrite=True).tasks == {}


@pytest.mark.parametrize("text", ["[]", "{", '{"tasks": 1}', '{"settings": {}, "averages": {}, "tasks": {"a": {}}}'])
def test_a_file_of_another_kind_is_refused(tmp_path, text):
    file = tmp_path / "eval.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"eval\.json"):
        results.opened(file, "model", {}, overwrite=False)
    file.write_text(json.dumps({"settings": {}, "averages": {}, "tasks": {}}))
