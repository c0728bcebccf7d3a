"""`hbo init`: a folder of datasets becomes a configuration that hbo itself reads."""

import json
import lzma
from collections import Counter
from urllib.request import urlopen

import pytest
import yaml
from byte_models import STRICT, byte_model
from commands import refused
from datasets import Dataset, DatasetDict

from hbo.config.file import load, parse
from hbo.data.find_datasets import survey
from hbo.data.mixture import read_mixture


@pytest.fixture
def data(tmp_path):
    """A folder `data` and a way to write files of rows into it."""
    folder = tmp_path / "data"

    def write(name, rows):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return folder

    return write


def sums(count):
    return [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(count)]


def turns(count):
    return [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": str(i)}]}
        for i in range(count)
    ]


def written(file):
    """The rows of each dataset that the configuration in `file` reads."""
    return Counter(read_mixture(load(file).mixture.datasets)["hbo_dataset"])


def test_what_it_writes_reads_every_dataset_of_the_folder(hbo, data, tmp_path):
    data("math.jsonl", sums(30))
    data("chat/train-0.jsonl", turns(20))
    data("chat/test-0.jsonl", turns(7))
    folder = data("notes.json", [{"text": "a"}, {"text": "b"}])
    file = tmp_path / "made" / "run.yaml"
    done = hbo("init", folder, "--output", file, "--model", "org/model")
    assert done.returncode == 0, done.stderr
    assert "math: 30 rows in format 'prompt'" in done.stdout
    assert written(file) == {"math": 30, "chat": 20, "notes": 2}  # the test split isn't trained on
    config = load(file)
    assert config.model == "org/model" and config.balance.method == "hbo"
    assert config.mixture.datasets["math"].columns == {"prompt": "question", "completion": "answer"}
    assert config.train["max_steps"] == 9  # 3 × 49 rows in steps of 16
    text = file.read_text()
    assert "30 rows in format 'prompt', 57.7% of the mixture" in text
    refused(hbo("init", folder, "--output", file), str(file), "--overwrite")
    assert hbo("init", folder, "--output", file, "--overwrite").returncode == 0


def test_rows_and_files_that_can_not_be_used_are_named_and_left_out(hbo, data, tmp_path):
    data("good.jsonl", [*sums(9), {"question": None, "answer": "x"}])
    data("strange.jsonl", [{"colour": "red"}])
    folder = data("broken.jsonl", [])
    (folder / "broken.jsonl").write_text('{"text": ')
    file = tmp_path / "run.yaml"
    done = hbo("init", folder, "--output", file)
    assert done.returncode == 0, done.stderr
    assert "strange: can't be used: dataset 'strange': no known row format; columns seen: colour" in done.stdout
    assert "broken.jsonl, line 1: not valid JSON" in done.stdout
    assert "good: 9 rows in format 'prompt', 1 can't be used" in done.stdout
    assert written(file) == {"good": 9}


def test_names_that_yaml_would_take_for_something_else(hbo, data, tmp_path):
    for name in ("no.jsonl", "a: b # c.jsonl", "2024.jsonl", "ünï.jsonl", "no.json"):
        folder = data(name, sums(4))
    file = tmp_path / "run.yaml"
    assert hbo("init", folder, "--output", file).returncode == 0
    assert set(written(file)) == {"no", "no-2", "a: b # c", "2024", "ünï"}


def test_a_few_rows_still_make_a_plan_that_can_run(data):
    found = survey(data("one.jsonl", sums(1)))
    from hbo.cli.init import configuration

    config = parse(yaml.safe_load(configuration(found, "m")), source="it")
    assert config.train["max_steps"] == 3 and config.balance.update_every == 1  # steps of a single row


def test_the_smallest_datasets_beside_a_large_one_pass_the_check(hbo, data, tmp_path):
    """Whoever has 1, 3 and 300 rows keeps the groups of the large dataset and every row of the small ones."""
    for name, count in (("one", 1), ("three", 3), ("many", 300)):
        folder = data(f"{name}.jsonl", sums(count))
    byte_model(tmp_path / "model")
    file = tmp_path / "run.yaml"
    assert hbo("init", folder, "--output", file, "--model", tmp_path / "model").returncode == 0
    done = hbo("check", file)
    assert done.returncode == 0, done.stderr
    assert load(file).difficulty.groups == 4
    assert "dataset 'one': its only row is trained on" in done.stdout
    assert "dataset 'three' has 2 rows to train on, so it gets 2 groups instead of 4" in done.stdout
    assert "many" in done.stdout and "285" in done.stdout
    (folder / "many.jsonl").unlink()
    assert hbo("init", folder, "--output", file, "--model", tmp_path / "model", "--overwrite").returncode == 0
    assert load(file).difficulty.groups == 1
    assert hbo("check", file).returncode == 0


@pytest.mark.parametrize("sizes", [(6,), (9, 12, 20), (24, 40, 90), (70, 100, 1500)])
def test_its_check_has_nothing_to_say_of_small_data(hbo, data, tmp_path, sizes):
    for size in sizes:
        folder = data(f"d{size}.jsonl", [{"prompt": f"{size} {i}?", "completion": str(i)} for i in range(size)])
    byte_model(tmp_path / "model")
    file = tmp_path / "run.yaml"
    assert hbo("init", folder, "--output", file, "--model", tmp_path / "model").returncode == 0
    done = hbo("check", file)
    assert done.returncode == 0, done.stderr
    assert "no warnings" in done.stdout and "warning" not in done.stderr, done.stdout


def test_editors_find_the_schema_that_it_names(hbo, data, tmp_path):
    file = tmp_path / "run.yaml"
    assert hbo("init", data("a.jsonl", sums(30)), "--output", file).returncode == 0
    uri = file.read_text().splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    with urlopen(uri) as opened:
        held = json.load(opened)
    assert held["title"] == "A run of hbo train"
    assert json.loads(hbo("schema").stdout) == held


def test_rows_that_the_models_template_refuses_are_left_out(hbo, data, tmp_path):
    rows = turns(20)
    rows[3]["messages"].insert(0, rows[3]["messages"][0])
    folder = data("chat.jsonl", rows)
    model = byte_model(tmp_path / "model", template=STRICT)
    file = tmp_path / "run.yaml"
    done = hbo("init", folder, "--output", file, "--model", model)
    assert done.returncode == 0, done.stderr
    assert "chat: 19 rows in format 'messages', 1 can't be used" in done.stdout
    assert "line 4: the tokenizer's chat template refuses the conversation" in done.stdout
    assert hbo("check", file).returncode == 0


def test_what_lies_in_the_folder_and_is_not_trained_on_is_named(hbo, data, tmp_path):
    data("test.jsonl", sums(3))
    folder = data("math.jsonl", sums(30))
    (folder / "words.txt").write_text("one\ntwo\n")
    (folder / "README.md").write_text("# Mine\n")
    file = tmp_path / "run.yaml"
    done = hbo("init", folder, "--output", file)
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, file.read_text()):
        assert f"can't be used: {folder / 'test.jsonl'} belongs to a split that isn't trained on" in text
        assert "lines of text are rows with {path: text, data_files:" in text
        assert "README" not in text
    assert written(file) == {"math": 30}


def test_datasets_as_they_are_stored_are_found(hbo, data, tmp_path):
    folder = data("packed.jsonl", [])
    (folder / "packed.jsonl").unlink()
    (folder / "packed.jsonl.xz").write_bytes(lzma.compress(json.dumps({"prompt": "q", "completion": "a"}).encode()))
    DatasetDict(train=Dataset.from_list(sums(5)), test=Dataset.from_list(sums(2))).save_to_disk(folder / "saved")
    (folder / "hive" / "lang=de").mkdir(parents=True)
    Dataset.from_list(turns(4)).to_parquet(folder / "hive" / "lang=de" / "part-0.parquet")
    clone = folder / "clone"
    (clone / "data").mkdir(parents=True)
    (clone / "dataset_infos.json").write_text('{"default": {}}')
    (clone / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: data/*.jsonl\n---\n")
    (clone / "data" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums(6)))
    file = tmp_path / "run.yaml"
    done = hbo("init", folder, "--output", file)
    assert done.returncode == 0, done.stderr
    assert written(file) == {"packed": 1, "saved": 5, "hive": 4, "clone": 6}
    for one, name, rows in ((clone, "clone", 6), (folder / "saved", "saved", 5)):
        assert hbo("init", one, "--output", file, "--overwrite").returncode == 0
        assert written(file) == {name: rows}


def test_a_folder_without_data_is_one_sentence(hbo, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(hbo("init", tmp_path / "empty"), "empty", ".jsonl")
    refused(hbo("init", tmp_path / "nowhere"), "nowhere", "no such folder")
    (tmp_path / "empty" / "x.jsonl").write_text("[]")
    refused(
        hbo("init", tmp_path / "empty", "--output", tmp_path / "run.yaml"), "x.jsonl", "no dataset in it can be used"
    )
    assert not (tmp_path / "run.yaml").exists()


def test_columns_are_chosen_by_all_rows_and_those_left_unread_are_told(hbo, data, tmp_path):
    rows = [{"question": f"{i}?", "answer": "a", "context": "c" if i else None, "topic": "x"} for i in range(6)]
    data("asked.jsonl", [{"topic": "x"}, *rows])
    folder = data("dolly.jsonl", [{"instruction": "q", "context": "c", "response": "a", "category": "x"}] * 3)
    file = tmp_path / "run.yaml"
    done = hbo("init", folder, "--output", file)
    assert done.returncode == 0, done.stderr
    assert "dataset 'dolly': columns that are not read: category (3 rows); `columns: {input: NAME}`" in done.stdout
    assert "dataset 'asked': columns that are not read: topic (6 rows)" in done.stdout
    assert "      # dataset 'dolly': columns that are not read: category (3 rows)" in file.read_text()
    datasets = load(file).mixture.datasets
    assert datasets["asked"].columns == {"prompt": "question", "completion": "answer", "input": "context"}
    assert datasets["dolly"].columns is None
    prompts = [row["prompt"][0]["content"] for row in read_mixture(datasets)]
    assert prompts == ["0?", *(f"{i}?\n\nc" for i in range(1, 6)), *["q\n\nc"] * 3]


def test_a_file_of_two_formats_says_so(hbo, data, tmp_path):
    done = hbo("init", data("both.jsonl", [*turns(2), {"text": "t"}]), "--output", tmp_path / "run.yaml")
    assert "both: 3 rows in format 'messages and text'" in done.stdout
    assert "its rows are of several formats: 2 messages (the first: " in done.stdout
