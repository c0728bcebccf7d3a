"""Whatever an entry may name is read as it was meant; `where` takes the rows that were meant and no others."""

import json
from pathlib import Path
from types import MappingProxyType

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, Value

from hbo.config.data import DatasetConfig, SourceConfig
from hbo.data.mixture import read_mixture
from hbo.data.sources import from_dataset, is_on_hub, is_wanted, open_entry, open_source
from hbo.errors import ConfigError, DataError


def rows(source):
    return [row for part in source.parts for row, _ in part()]


def source(path, **options):
    return open_source("d", DatasetConfig(path=str(path), **options))


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / f"{name}.jsonl").write_text(f'{{"text": "{value}"}}\n')
    return folder


def texts(found):
    return [row["text"] for row in rows(found)]


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    folder = write(tmp_path / "data", b=2, a=1)
    write(folder / "sub", c=3)
    write(folder / ".hidden", d=4)
    (folder / "README.md").write_text("no rows")
    assert texts(source(folder)) == ["1", "2", "3"]


def test_data_files_and_data_dir_choose_in_a_folder(tmp_path):
    folder = write(tmp_path / "data", train_a=1, test_a=2)
    write(folder / "sub", c=3)
    assert texts(source(folder, data_files="train*")) == ["1"]
    assert texts(source(folder, data_files=["test*", "sub/*"])) == ["3", "2"]
    assert texts(source(folder, data_dir="sub")) == ["3"]
    with pytest.raises(DataError, match=r"no file in .*data that holds rows matches 'dev\*'"):
        source(folder, data_files="dev*")
    with pytest.raises(DataError, match=r"no such file or folder; near it: sub"):
        source(folder, data_dir="suub")


def test_of_several_splits_in_a_folder_one_is_read_and_the_others_are_named(tmp_path):
    folder = write(tmp_path / "data", **{"train-0": 1, "test-0": 2, "more": 3})
    with pytest.warns(UserWarning, match=r"a file is left out, not of the split 'train': test-0\.jsonl"):
        assert texts(source(folder)) == ["3", "1"]
    with pytest.warns(UserWarning, match=r"2 files are left out, not of the split 'eval'"):
        assert texts(source(folder, split="eval")) == ["2"]
    with pytest.raises(DataError, match="has no split 'dev'; choose one with split: train, test"):
        source(folder, split="dev")


def test_splits_may_be_folders(tmp_path):
    write(tmp_path / "data" / "train", a=1)
    write(tmp_path / "data" / "validation", a=2)
    with pytest.warns(UserWarning, match=r"not of the split 'train': validation/a\.jsonl"):
        assert texts(source(tmp_path / "data")) == ["1"]


def test_files_may_be_given_by_split(tmp_path):
    folder = write(tmp_path / "data", a=1, b=2)
    assert texts(source(folder, data_files={"train": "a*", "test": "b*"}, split="test")) == ["2"]


def test_a_folder_without_rows_is_refused(tmp_path):
    (tmp_path / "a.md").touch()
    with pytest.raises(DataError, match=r"dataset 'd': the folder .* holds no file ending in \.jsonl, \.ndjson"):
        source(tmp_path)


def test_files_that_look_like_data_and_can_not_be_read_are_named(tmp_path):
    folder = write(tmp_path / "data", a=1)
    for name in ("b.parquet.gz", "LICENSE", "notes.md", "_SUCCESS"):
        (folder / name).touch()
    with pytest.warns(UserWarning, match=r"a file is left out, not a kind of file that hbo reads: b\.parquet\.gz$"):
        assert texts(source(folder)) == ["1"]


def test_what_save_to_disk_wrote_is_read(tmp_path):
    saved = tmp_path / "saved"
    Dataset.from_dict({"text": list("abc")}).select([2, 0]).save_to_disk(saved, num_shards=2)
    Dataset.from_dict({"text": ["stale"]}).save_to_disk(tmp_path / "other")
    (tmp_path / "other" / "data-00000-of-00001.arrow").rename(saved / "cache-123.arrow")  # as `map` leaves them there
    assert texts(source(saved)) == ["c", "a"]


def test_of_a_saved_dict_of_datasets_the_split_is_read(tmp_path):
    saved = DatasetDict(train=Dataset.from_dict({"text": ["a"]}), extra=Dataset.from_dict({"text": ["b"]}))
    saved.save_to_disk(tmp_path / "saved")
    assert texts(source(tmp_path / "saved")) == ["a"]
    assert texts(source(tmp_path / "saved", split="extra")) == ["b"]
    with pytest.raises(DataError, match="has no split 'test'; choose one with split: train, extra"):
        source(tmp_path / "saved", split="test")


CARD = """---
configs:
- config_name: small
  data_files: small/*.jsonl
- config_name: large
  data_files:
  - {split: train, path: large/part-*.jsonl}
  - {split: test, path: [large/test.jsonl]}
---
"""


def test_a_clone_is_read_as_its_readme_says(tmp_path):
    write(tmp_path / "small", a=1, train=2)
    write(tmp_path / "large", **{"part-0": 3, "part-1": 4, "test": 5, "notes": 6})
    for name in ("dataset_infos.json", "dataset_info.json"):
        (tmp_path / name).write_text(json.dumps({"default": {"features": {"text": {"dtype": "string"}}}}))
    assert texts(source(tmp_path / "small")) == ["1", "2"]
    (tmp_path / "README.md").write_text(CARD)
    assert texts(source(tmp_path, name="small")) == ["1", "2"]
    assert texts(source(tmp_path, name="large")) == ["3", "4"]
    assert texts(source(tmp_path, name="large", split="test")) == ["5"]
    with pytest.raises(DataError, match="has several configurations; choose one with name: small, large"):
        source(tmp_path)
    with pytest.raises(DataError, match="has no configuration 'big'; choose one with name: small, large"):
        source(tmp_path, name="big")
    with pytest.raises(DataError, match="has no split 'dev'; choose one with split: train, test"):
        source(tmp_path, name="large", split="dev")
    (tmp_path / "README.md").write_text("---\nconfigs: 3\n---\n")
    with pytest.raises(
        DataError, match=r"the configs in .*README\.md can't be read .*choose the files with data_files"
    ):
        source(tmp_path)


def test_infos_beside_the_rows_are_no_rows(tmp_path):
    folder = write(tmp_path / "repo", a=1)
    (folder / "dataset_infos.json").write_text('{"default": {}}')
    assert texts(source(folder)) == ["1"]
    assert rows(source(folder, data_files="dataset_infos.json")) == [{"default": {}}]  # asked for by name


def test_a_pattern_is_a_path(tmp_path, monkeypatch):
    write(tmp_path / "data", **{"part-0": 1, "part-1": 2, "other": 3})
    write(tmp_path / "data" / "sub", **{"part-2": 4})
    assert texts(source(tmp_path / "data" / "part-*.jsonl")) == ["1", "2"]
    monkeypatch.chdir(tmp_path)
    assert texts(source("data/**/part-[12].jsonl")) == ["2", "4"]
    assert texts(source("data/s*")) == ["4"]
    assert not is_on_hub(SourceConfig(path="data/*"))
    with pytest.raises(DataError, match=r"no file that holds rows matches 'data/\*\.csv'"):
        source("data/*.csv")
    (tmp_path / "a[1].jsonl").write_text('{"text": "literal"}\n')
    assert texts(source("a[1].jsonl")) == ["literal"]


def test_the_names_of_partitions_are_columns(tmp_path):
    for lang, year in (("de", 2023), ("pt%20BR", 2024)):
        folder = tmp_path / "hive" / f"lang={lang}" / f"year={year}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"text": [lang]}), folder / "part-0.parquet")
    found = rows(source(tmp_path / "hive"))
    assert found == [{"lang": "de", "year": 2023, "text": "de"}, {"lang": "pt BR", "year": 2024, "text": "pt%20BR"}]
    assert rows(source(tmp_path / "hive", where={"year": 2024})) == found[1:]
    assert rows(source(tmp_path / "hive" / "lang=de" / "*" / "*.parquet")) == found[:1]
    moved = source(tmp_path / "hive").fingerprint
    (tmp_path / "hive" / "lang=de").rename(tmp_path / "hive" / "lang=fr")
    assert source(tmp_path / "hive").fingerprint != moved
    assert {row["lang"] for row in rows(source(tmp_path / "hive"))} == {"fr", "pt BR"}


def test_a_row_keeps_its_own_value_and_a_null_partition_is_null(tmp_path):
    write(tmp_path / "text=x", a=1)
    write(tmp_path / "lang=__HIVE_DEFAULT_PARTITION__", a=1)
    assert rows(source(tmp_path)) == [{"lang": None, "text": "1"}, {"text": "1"}]


def test_a_builder_of_datasets_reads_the_files_that_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("asked the Hub"))
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "x.parquet")
    pq.write_table(pa.table({"text": ["b"]}), tmp_path / "y.part")
    assert texts(source("parquet", data_files="x.parquet")) == ["a"]
    assert texts(source("parquet", data_files={"train": ["x.parquet"], "test": str(tmp_path / "*.part")})) == ["a"]
    assert texts(source("parquet", data_files={"train": "x.parquet", "test": "*.part"}, split="test")) == ["b"]
    assert texts(source("json", data_dir=str(write(tmp_path / "data", a=1)))) == ["1"]
    assert not is_on_hub(SourceConfig(path="parquet", data_files="x.parquet"))
    assert is_on_hub(SourceConfig(path="parquet", data_files="https://host/x.parquet"))
    with pytest.raises(DataError, match="no file that holds rows matches 'gone.parquet'"):
        source("parquet", data_files="gone.parquet")


def test_other_builders_and_parts_of_a_split_are_those_of_datasets(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    datasets.disable_progress_bars()
    lines = {"path": "text", "data_files": str(tmp_path / "a.txt")}
    assert texts(source(**lines)) == ["one", "two"]
    assert not is_on_hub(SourceConfig(**lines))
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    assert texts(source("json", data_files=str(tmp_path / "a.jsonl"), split="train[1:]")) == ["two"]
    with pytest.raises(DataError, match="the builder 'text' of datasets can't read its data_files"):
        source("text", data_files=str(tmp_path / "gone.txt"))
    datasets.enable_progress_bars()


def test_a_url_is_told_how_to_be_given():
    with pytest.raises(DataError, match=r"is a URL; .*\{path: parquet, data_files: hf://datasets/o/n/x\.parquet\}"):
        source("hf://datasets/o/n/x.parquet")


def test_a_missing_file_names_its_neighbours(tmp_path):
    write(tmp_path, general=1)
    with pytest.raises(DataError, match=r"genral\.jsonl: no such file or folder; near it: general\.jsonl"):
        source(tmp_path / "genral.jsonl")
    with pytest.raises(DataError, match="nor the folder"):
        source(tmp_path / "nowhere" / "a.jsonl")


@pytest.mark.parametrize("path", ["gone.jsonl", "./gone", "../gone", "a/b/gone", "~/gone", "gone.csv.gz", "gone.txt"])
def test_what_looks_like_a_file_is_never_sought_on_the_hub(path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("asked the Hub"))
    with pytest.raises(DataError, match="no such file or folder"):
        source(path)


def test_keys_of_a_hub_dataset_are_refused_for_a_file(tmp_path):
    file = write(tmp_path, a=1) / "a.jsonl"
    with pytest.raises(DataError, match=r"`name: main` can't be used with the local path .*leave it out"):
        source(file, name="main")
    with pytest.raises(DataError, match=r"`split: test` can't.*give the file of that split as path"):
        source(file, split="test")
    with pytest.raises(DataError, match="`data_files"):
        source(file, data_files="*.jsonl")


def test_a_hub_dataset_is_loaded_with_its_keys(monkeypatch):
    asked = []

    def load(*args, **options):
        asked.append((args, options))
        return Dataset.from_dict({"text": ["a", "b"]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert texts(source("openai/gsm8k", name="main", split="train[:2]")) == ["a", "b"]
    expected = {"data_dir": None, "data_files": None, "split": "train[:2]", "streaming": False}
    assert asked == [(("openai/gsm8k", "main"), expected)]


def test_a_hub_dataset_that_fails_is_one_sentence(monkeypatch):
    def load(*args, **options):
        raise ConnectionError("no network\nwith details")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(
        DataError, match=r"'me/gone' isn't a local file.*ConnectionError: no network\); check path"
    ) as caught:
        source("me/gone")
    assert "\n" not in str(caught.value)


def test_a_dataset_gives_its_rows_whatever_its_format():
    data = Dataset.from_dict({"x": [1, 2, 3]}).with_format("numpy").select([2, 0])
    assert rows(from_dataset("d", data)) == [{"x": 3}, {"x": 1}]
    assert [where for _, where in from_dataset("d", data).parts[0]()] == ["dataset 'd', row 0", "dataset 'd', row 1"]


def test_a_streaming_dataset_is_told_what_to_do_instead():
    data = Dataset.from_dict({"x": [1]}).to_iterable_dataset()
    with pytest.raises(DataError, match=r"streaming dataset .*streaming=False.*Dataset\.from_generator"):
        from_dataset("d", data)


def test_the_advice_for_streaming_datasets_works(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    stream = Dataset.from_dict({"x": [1, 2]}, features=Features({"x": Value("int64")})).to_iterable_dataset()
    datasets.disable_progress_bars()
    made = Dataset.from_generator(lambda: iter(stream.take(1)), features=stream.features, cache_dir=str(tmp_path))
    datasets.enable_progress_bars()
    assert rows(from_dataset("d", made)) == [{"x": 1}]


def test_a_dataset_with_splits_and_other_things_are_refused():
    splits = DatasetDict(test=Dataset.from_dict({"x": [1]}))
    with pytest.raises(DataError, match=r"has the splits test; choose one, such as data\['test'\]"):
        from_dataset("d", splits)
    with pytest.raises(DataError, match="dataset 'd': int isn't a dataset"):
        from_dataset("d", 3)


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    one, same, other = (write(tmp_path / name, a=value) for name, value in (("x", 1), ("y", 1), ("z", 2)))
    assert source(one).fingerprint == source(same).fingerprint == source(one / "a.jsonl").fingerprint
    assert source(one).fingerprint != source(other).fingerprint
    write(one, b=1)
    assert source(one).fingerprint != source(same).fingerprint


def test_the_same_bytes_read_in_another_way_are_another_content(tmp_path):
    lines, commas = tmp_path / "a.jsonl", tmp_path / "a.csv"
    lines.write_text("text\n")
    commas.write_text("text\n")
    assert source(lines).fingerprint != source(commas).fingerprint


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("owner/name", True),
        ("name", True),
        ("gone.jsonl", False),
        ("./gone", False),
        ("a/b/c", False),
        ("x" * 300, False),
    ],
)
def test_what_could_only_be_on_the_hub_is_told_without_asking_it(path, expected):
    assert is_on_hub(SourceConfig(path=path)) == expected


def test_what_lies_here_is_not_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert not is_on_hub(SourceConfig(path="owner/name"))


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


def write_rows(path, rows):
    if path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(params=["jsonl", "parquet", "Dataset"])
def filtered(request, tmp_path):
    if request.param == "Dataset":  # as a Hub dataset is read
        return lambda where: from_dataset("d", Dataset.from_list(ROWS), where)
    path = write_rows(tmp_path / f"rows.{request.param}", ROWS)
    return lambda where: open_source("d", SourceConfig(path=str(path), where=where))


def read(filtered):
    return [(row, place) for part in filtered.parts for row, place in part()]


def test_every_kind_of_source_is_filtered_and_keeps_its_places(filtered):
    everything = read(filtered(None))
    assert [row for row, _ in everything] == ROWS
    assert read(filtered({"language": "English"})) == [everything[0], everything[2]]
    assert read(filtered({"language": "Greek"})) == []


def test_the_same_rows_chosen_otherwise_are_another_mixture(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for where, count in (({"language": "English"}, 2), ({"language": "Hindi"}, 1), (None, 5)):
        data = read_mixture({"a": {"path": path, "where": where}})
        assert (len(data), data["hbo_row"][:]) == (count, list(range(count)))


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "Hub"])
def test_a_column_that_no_row_has_is_named_with_the_nearest(kind, tmp_path):
    path = tmp_path / f"rows.{kind}"
    with pytest.raises(DataError, match=r"no column 'langage', which `where` names \(did you mean 'language'\?\)"):
        if kind == "Hub":
            read(from_dataset("d", Dataset.from_list(ROWS), {"langage": "English"}))
        write_rows(path, ROWS)
        read_mixture({"a": {"path": path, "where": {"langage": "English"}}})


def test_a_column_that_some_rows_lack_is_null_there(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [{"prompt": "q", "completion": "a"}, *ROWS])
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
