from pathlib import Path
from types import MappingProxyType

import pytest
from datasets import Dataset, DatasetDict

from hbo.config.data import DatasetConfig
from hbo.data.sources import open_entry
from hbo.errors import ConfigError, DataError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n')
    return path


@pytest.mark.parametrize(
    "spell",
    [
        str,
        Path,
        lambda path: {"path": path},
        lambda path: MappingProxyType({"path": str(path)}),
        lambda path: DatasetConfig(path=str(path)),
    ],
)
def test_a_file_may_be_given_in_any_spelling(file, spell):
    entry = open_entry("d", spell(file))
    assert (entry.name, entry.config.path, [len(source.parts) for _, source in entry.sources]) == ("d", str(file), [1])


def test_a_dataset_is_taken_as_it_is():
    data = Dataset.from_dict({"text": ["a"]})
    assert open_entry("d", data).sources[0][1].fingerprint == data._fingerprint
    with pytest.raises(DataError, match="has the splits train"):
        open_entry("d", DatasetDict(train=data))


@pytest.mark.parametrize("name", ["数学", "a/b", "with space", "🙂"])
def test_any_text_is_a_name(file, name):
    assert open_entry(name, file).name == name


@pytest.mark.parametrize("name", ["", "  ", 3, None, "\ud800"])
def test_what_is_no_text_is_no_name(file, name):
    with pytest.raises(ConfigError, match="name"):
        open_entry(name, file)


def test_an_unknown_key_is_named_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"dataset 'd': unknown key 'colums' \(did you mean 'columns'\?\); known keys: path"
    ):
        open_entry("d", {"path": "a.jsonl", "colums": {}})


def test_a_wrong_value_is_named(file):
    with pytest.raises(ConfigError, match="dataset 'd': `weight`: Input should be greater than 0"):
        open_entry("d", {"path": file, "weight": -1})
    with pytest.raises(ConfigError, match="`path`: Field required"):
        open_entry("d", {})
