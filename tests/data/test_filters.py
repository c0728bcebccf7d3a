"""`where` takes the rows that were meant and no others, whatever they are read from."""

import json

import pytest
from datasets import Dataset

from hbo.config.data import SourceConfig
from hbo.data.mixture import read_mixture
from hbo.data.sources import from_dataset, is_wanted, open_source
from hbo.errors import DataError

ROWS = [
    {"prompt": f"q{i}", "completion": f"a{i}", "language": language, "toxic": i == 1, "turn": i}
    for i, language in enumerate(["English", "Hindi", "English", None, "Swahili"])
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"language": "English"}, [0, 2]),
        ({"language": ["Hindi", "Swahili"]}, [1, 4]),
        ({"language": ["English", "Hindi"], "toxic": False}, [0, 2]),
        ({"turn": 1}, [1]),  # not true, which is 1 to Python
        ({"turn": 1.0}, [1]),
        ({"toxic": True}, [1]),
        ({"toxic": 1}, []),
        ({"turn": "1"}, []),
        ({}, [0, 1, 2, 3, 4]),
    ],
)
def test_a_row_is_wanted_when_every_column_has_one_of_its_values(wanted, expected):
    assert [i for i, row in enumerate(ROWS) if is_wanted(row, wanted)] == expected


def write(path, rows):
    if path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(params=["jsonl", "parquet", "Dataset"])
def source(request, tmp_path):
    if request.param == "Dataset":  # as a Hub dataset is read
        return lambda where: from_dataset("d", Dataset.from_list(ROWS), where)
    path = write(tmp_path / f"rows.{request.param}", ROWS)
    return lambda where: open_source("d", SourceConfig(path=str(path), where=where))


def read(source):
    return [(row, place) for part in source.parts for row, place in part()]


def test_every_kind_of_source_is_filtered_and_keeps_its_places(source):
    everything = read(source(None))
    assert [row for row, _ in everything] == ROWS
    assert read(source({"language": "English"})) == [everything[0], everything[2]]
    assert read(source({"language": "Greek"})) == []


def test_the_same_rows_chosen_otherwise_are_another_mixture(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for where, count in (({"language": "English"}, 2), ({"language": "Hindi"}, 1), (None, 5)):
        data = read_mixture({"a": {"path": path, "where": where}})
        assert (len(data), data["hbo_row"][:]) == (count, list(range(count)))


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "Hub"])
def test_a_column_that_no_row_has_is_named_with_the_nearest(kind, tmp_path):
    path = tmp_path / f"rows.{kind}"
    with pytest.raises(DataError, match=r"no column 'langage', by which `where` chooses \(did you mean 'language'\?\)"):
        if kind == "Hub":
            read(from_dataset("d", Dataset.from_list(ROWS), {"langage": "English"}))
        write(path, ROWS)
        read_mixture({"a": {"path": path, "where": {"langage": "English"}}})


def test_a_column_that_some_rows_lack_is_null_there(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"prompt": "q", "completion": "a"}, *ROWS])
    data = read_mixture({"a": {"path": path, "where": {"language": "Hindi"}}})
    assert data["prompt"][:] == [[{"role": "user", "content": "q1"}]]


def test_a_value_that_no_row_has_is_said(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with pytest.raises(
        DataError, match=r"dataset 'a': no row of .*rows\.jsonl has what `where` asks for \(language is"
    ):
        read_mixture({"a": {"path": path, "where": {"language": ["Greek", "Latin"]}}})


def test_where_a_column_holds_truths_their_old_words_choose_them(tmp_path):
    rows = [{"prompt": "a", "completion": "b", "toxic": True, "lang": "no"},
            {"prompt": "c", "completion": "d", "toxic": False, "lang": "sv"}]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def asked(where):
        return [row[0]["content"] for row in read_mixture({"a": {"path": path, "where": where}})["prompt"]]

    assert asked({"toxic": "no"}) == asked({"toxic": False}) == ["c"]
    assert asked({"toxic": ["Yes"]}) == asked({"lang": "no"}) == ["a"]
    with pytest.raises(DataError, match="no row of"):
        asked({"lang": False})
