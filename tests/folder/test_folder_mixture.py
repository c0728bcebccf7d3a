"""mixture.json: what a wrong one is answered with."""

import json

import pytest
from example_runs import write_json, write_mixture

from hbo.errors import DataError
from hbo.folder.mixture import Mixture
from hbo.folder.run import read_run


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metric": 3}, "'metric' is '3' where a text is needed"),
        ({"datasets": []}, "'datasets' is missing"),
        ({"datasets": {"math": 3}}, "dataset 'math'"),
        ({"datasets": {"math": {"held_out": 1, "groups": [{}]}}}, "dataset 'math': 'rows' is missing"),
        ({"datasets": {"math": {"held_out": 1, "groups": []}}}, "'groups' of 'math' must name 4 groups"),
    ],
)
def test_a_broken_file_is_one_sentence(run_folder, change, said):
    write_mixture(run_folder)
    data = json.loads((run_folder / "mixture.json").read_text())
    write_json(run_folder / "mixture.json", data | change)
    with pytest.raises(DataError, match=r"mixture\.json") as caught:
        read_run(run_folder)
    assert said in str(caught.value)


def test_no_file_is_no_error(tmp_path):
    assert Mixture.read(tmp_path / "mixture.json") is None
