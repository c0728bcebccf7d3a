import datasets
import pytest
from datasets import Dataset, DatasetDict, Features, Value

from hbo.data.sources import from_dataset, is_on_hub, open_source
from hbo.errors import DataError
from hbo.mixture_config import DatasetConfig, SourceConfig


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


def test_a_folder_with_several_splits_asks_which(tmp_path):
    folder = write(tmp_path / "data", **{"train-0": 1, "test-0": 2})
    with pytest.raises(DataError, match=r"several splits \(test, train\); choose with data_files"):
        source(folder)


def test_a_folder_without_rows_is_refused(tmp_path):
    (tmp_path / "a.md").touch()
    with pytest.raises(DataError, match=r"dataset 'd': the folder .* holds no file ending in \.jsonl, \.json"):
        source(tmp_path)


def test_a_folder_of_save_to_disk_is_explained(tmp_path):
    Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"written by save_to_disk; in Python give datasets\.load_from_disk"):
        source(tmp_path / "saved")


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
        DataError, match=r"'me/gone' is no local file.*ConnectionError: no network\); check path"
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
    with pytest.raises(DataError, match="dataset 'd': int is no kind of dataset"):
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
