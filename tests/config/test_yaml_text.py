"""What YAML 1.1 would make of names and numbers, and what people mean by them."""

import pytest
import yaml

from hbo.config.yaml_text import read_yaml, write_yaml
from hbo.errors import ConfigError


def read(text, *at):
    return read_yaml(text, "here", at)[0]


@pytest.mark.parametrize(
    "word",
    ["no", "No", "NO", "on", "off", "yes", "y", "12:30", "2024-01-01", "2024-13-45", "010", "007", "1_000", "1e"],
)
def test_a_bare_word_that_is_neither_true_nor_a_number_is_text(word):
    assert read(word) == word
    assert read(f"[{word}]") == [word]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("4", 4), ("-4", -4), ("0", 0),
        ("4.0", 4.0), ("1e-3", 1e-3), ("1E5", 1e5), ("5e-06", 5e-6), (".5", 0.5), ("0x1F", 31), (".inf", float("inf")),
    ],
)  # fmt: skip
def test_numbers_truths_and_null_are_what_everybody_takes_them_for(word, value):
    found = read(word)
    assert (found, type(found)) == (value, type(value))


def test_every_name_of_a_dataset_or_column_is_the_text_that_was_written():
    names = ["no", "on", "null", "~", "true", "007", "5", "1e5", "2024-01-01", "12:30"]
    mixture = read("{mixture: {datasets: {" + ", ".join(f"{name}: a.jsonl" for name in names) + "}}}")
    assert list(mixture["mixture"]["datasets"]) == names
    assert read("{on: a.jsonl, 5: b.jsonl}", "mixture", "datasets") == {"on": "a.jsonl", "5": "b.jsonl"}


def test_options_of_libraries_keep_the_old_words_for_true_and_false_where_no_type_tells():
    text = (
        "{accelerator_config: {split_batches: no, other: 'no'}, model_init_kwargs: {max_memory: {0: 2GiB}}, optim: no}"
    )
    assert read(text, "train") == {
        "accelerator_config": {"split_batches": False, "other": "no"},
        "model_init_kwargs": {"max_memory": {0: "2GiB"}},
        "optim": "no",
    }
    assert read("off", "train", "fsdp_config", "cpu_offload") is False
    assert read("{target_modules: [on, off]}", "lora") == {"target_modules": ["on", "off"]}


def test_merged_keys_and_aliases_are_read():
    assert read("{a: &x {no: 1}, b: {<<: *x, c: 2}}") == {"a": {"no": 1}, "b": {"no": 1, "c": 2}}


def test_what_is_written_is_read_back_by_either_version_of_yaml():
    value = {"no": ["1e-3", "on", "010", "12:30", "null", "", 1e-3, 5e-6, None, True, 4, 4.0, "2024-01-01", "é\u2028"]}
    text = write_yaml(value)
    assert read(text, "mixture") == yaml.safe_load(text) == value


@pytest.mark.parametrize("text", ["!!timestamp 2024-13-45", "!!bool maybe", "{a: 1", "{[a]: 1}"])
def test_what_can_not_be_read_is_one_sentence(text):
    with pytest.raises(ConfigError, match=r"^here.*: not valid YAML \(.*\); fix it, or quote the value$"):
        read(text)
