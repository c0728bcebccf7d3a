"""eval.json: what a wrong one is answered with."""

import json

import pytest

from hbo.errors import DataError
from hbo.folder.benchmarks import Evaluation

HELD = {"model": "model", "settings": {}, "averages": {}, "tasks": {}}


def test_there_may_be_no_file(tmp_path):
    assert Evaluation.read(tmp_path / "eval.json") is None


@pytest.mark.parametrize("broken", [{"tasks": []}, {"settings": None}, {"averages": {"mu_ml": {"accuracy": "high"}}}])
def test_a_broken_file_is_named(tmp_path, broken):
    file = tmp_path / "eval.json"
    file.write_text(json.dumps(HELD | broken))
    with pytest.raises(DataError, match=r"eval\.json: '"):
        Evaluation.read(file)
