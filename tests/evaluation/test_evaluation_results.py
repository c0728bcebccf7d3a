"""eval.json: means, errors, and what may be put beside what."""

import json
import math

import pytest

from hbo.benchmarks import results
from hbo.benchmarks.harness import Score
from hbo.benchmarks.tasks import PRESETS
from hbo.errors import ConfigError, DataError


def test_a_tasks_mean_counts_every_language_the_same():
    found = results.entry({"sw": Score(0.2, 0.03, 1000, "acc,none"), "zh": Score(0.6, 0.04, 10, "acc,none")}, 2.0)
    assert found["accuracy"] == pytest.approx(0.4)
    assert found["standard_error"] == pytest.approx(0.05 / 2)
    assert found["n"] == 1010
    assert found["languages"]["zh"] == {"accuracy": 0.6, "standard_error": 0.04, "n": 10}


def test_an_unknown_error_makes_the_means_unknown():
    found = results.entry({"sw": Score(1.0, None, 1, "acc,none"), "zh": Score(0.0, 0.1, 9, "acc,none")}, 1.0)
    assert (found["accuracy"], found["standard_error"]) == (0.5, None)


def test_the_papers_means_need_all_their_tasks():
    tasks = {name: {"accuracy": i / 10, "standard_error": 0.1} for i, name in enumerate(PRESETS["multilingual"].tasks)}
    assert results.averages(tasks) == {
        "mu_ml": {"accuracy": pytest.approx(0.2), "standard_error": pytest.approx(0.1 * math.sqrt(5) / 5)}
    }
    del tasks["mgsm"]
    assert results.averages(tasks) == {}


def test_results_of_other_settings_or_models_are_not_mixed(tmp_path):
    file = tmp_path / "eval.json"
    results.write(file, results.opened(file, "model", {"chat_template": False}, overwrite=False))
    assert results.opened(file, "model", {"chat_template": False}, overwrite=False)["model"] == "model"
    with pytest.raises(ConfigError, match="holds results with chat_template false, not true"):
        results.opened(file, "model", {"chat_template": True}, overwrite=False)
    with pytest.raises(ConfigError, match="holds results of the model 'model'"):
        results.opened(file, "other", {"chat_template": False}, overwrite=False)
    assert results.opened(file, "other", {}, overwrite=True)["tasks"] == {}


@pytest.mark.parametrize("text", ["[]", "{", '{"tasks": 1}', '{"settings": {}, "averages": {}, "tasks": {"a": {}}}'])
def test_a_file_of_another_kind_is_refused(tmp_path, text):
    file = tmp_path / "eval.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"eval\.json"):
        results.opened(file, "model", {}, overwrite=False)
    file.write_text(json.dumps({"settings": {}, "averages": {}, "tasks": {}}))
