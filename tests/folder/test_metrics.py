import math

import pytest
from example_runs import write_json

from hbo.errors import DataError
from hbo.folder.log import read_training
from hbo.folder.metrics import Metrics


def test_metrics_of_a_run_are_read(run_folder):
    found = Metrics.read(run_folder / "metrics.json")
    assert found.method == "hbo"
    assert set(found.after) == set(found.before) == {"general", "math", "finance", "medical"}
    assert found.macro_before == pytest.approx(sum(s.nll for s in found.before.values()) / 4)


def test_absent_and_null_values_are_none(tmp_path):
    found = Metrics.checked({"method": None, "eval": None, "macro_nll": None}, "metrics.json")
    assert (found.method, found.macro_nll, found.tokens, found.macro_before) == (None, None, None, None)
    assert not found.after


def test_a_dataset_that_was_not_scored_is_left_out():
    found = Metrics.checked(
        {"eval": {"a": {"nll": None, "perplexity": None, "n": 0}, "b": {"nll": 1.5}}}, "metrics.json"
    )
    assert list(found.after) == ["b"]
    assert math.isnan(found.after["b"].perplexity)


def test_accuracy_is_read_where_there_is_any(tmp_path):
    found = Metrics.checked(
        {"accuracy": {"a": {"accuracy": 0.25, "n": 8, "kind": "choice"}, "b": {"accuracy": None}}}, "metrics.json"
    )
    assert {name: (score.value, score.n) for name, score in found.right.items()} == {"a": (0.25, 8)}
    assert not found.right_before


def test_missing_files_are_none(tmp_path):
    assert Metrics.read(tmp_path / "metrics.json") is None
    assert read_training(tmp_path) is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"steps": "many"}, "'steps' is 'many' where a whole number"),
        ({"steps": math.nan}, "'steps' is 'nan' where a whole number"),
        ({"macro_nll": [1]}, "'macro_nll' is"),
        ({"method": 3}, "'method' is '3'"),
        ({"eval": []}, "'eval' must be a mapping"),
        ({"eval": {"a": 2.0}}, "'eval', dataset 'a': must hold nll"),
        ({"accuracy": {"a": 0.5}}, "'accuracy', dataset 'a': must hold accuracy"),
        ({"sizes": {"a": [1, -1]}}, "'sizes', dataset 'a': is '-1' where a whole number"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(tmp_path, data, said):
    file = tmp_path / "metrics.json"
    write_json(file, data)
    with pytest.raises(DataError) as caught:
        Metrics.read(file)
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)


def test_a_file_that_is_not_json_is_named_with_its_line(tmp_path):
    (tmp_path / "metrics.json").write_text('{"steps": 3,\n"seed" 1}')
    with pytest.raises(DataError, match=r"metrics\.json, line 2: not JSON"):
        Metrics.read(tmp_path / "metrics.json")


def test_series_takes_only_the_named_loss(run_folder):
    training = read_training(run_folder)
    steps, values = training.series("loss/math")
    assert steps == list(range(5, 121, 5))
    assert len(values) == 24
    assert training.series("loss/ma") == ([], [])


def test_an_unfinished_run_falls_back_on_its_latest_checkpoint(tmp_path):
    for step in (9, 10, 100):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        write_json(folder / "trainer_state.json", {"global_step": step, "log_history": [{"step": step, "loss": 1.0}]})
    (tmp_path / "checkpoint-best").mkdir()
    training = read_training(tmp_path)
    assert (training.step, training.source) == (100, "checkpoint-100/trainer_state.json")


@pytest.mark.parametrize("history", [{}, [3], [{"loss": 1.0}], [{"step": "5"}]])
def test_a_log_without_steps_is_refused(tmp_path, history):
    write_json(tmp_path / "trainer_state.json", {"log_history": history})
    with pytest.raises(DataError, match=r"trainer_state\.json: 'log_history'"):
        read_training(tmp_path)
