"""Runs of a grid have one budget and one set of held-out rows, however a key is written."""

import pytest
import yaml

from hbo.compare.comparable import check_comparable
from hbo.config.file import load
from hbo.errors import ConfigError


@pytest.fixture
def config(tmp_path):
    """Writes CONFIG with these keys of `train:` and these datasets."""

    def write(train=None, datasets=None):
        data = {
            "model": "nothing",
            "mixture": {"datasets": datasets or {"a": "a.jsonl", "b": "b.jsonl"}},
            "train": {"max_steps": 4} if train is None else train,
        }
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(data))
        return tmp_path / "run.yaml"

    return write


def check(file, *overrides):
    check_comparable(load(file, overrides), load(file), [each.partition("=")[0] for each in overrides])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_steps=8", "--vary train.max_steps: all runs have the same budget of steps"),
        ("train={max_steps: 8}", "--vary train.max_steps: all runs have the same budget of steps"),
        ("train.per_device_train_batch_size=3", "same budget of steps"),
        ("global_batch_size=8", "--vary global_batch_size: all runs have the same budget of steps"),
        ("train.max_length=64", "--vary train.max_length: it changes the held-out rows too"),
        ("train.truncation_mode=keep_end", "changes the held-out rows too"),
        ("mixture.eval_fraction=0.1", "same held-out rows"),
        ("mixture={eval_fraction: 0.1, datasets: {a: a.jsonl, b: b.jsonl}}", "mixture.eval_fraction: .*held-out rows"),
        ("mixture.datasets.a.max_rows=3", "same held-out rows"),
        ("mixture.datasets.a.path=c.jsonl", "--vary mixture.datasets.a.path: .*same held-out rows"),
        ("mixture.datasets.weight=c.jsonl", "same held-out rows"),
    ],
)
def test_another_budget_or_other_held_out_rows_are_refused(config, override, message):
    with pytest.raises(ConfigError, match=message):
        check(config(), override)


def test_weights_and_what_learns_may_differ(config):
    check(
        config(), "mixture.datasets.a.weight=3", "train.learning_rate=1e-3", "train.packing=true", "train.max_steps=4"
    )


def test_a_dataset_whose_name_ends_like_the_key_keeps_its_rows(config):
    file = config(datasets={"a": "a.jsonl", "a.weight": "b.jsonl"})
    with pytest.raises(ConfigError, match="same held-out rows"):
        check(file, "mixture.datasets.a.weight=c.jsonl")
    check(file, "mixture.datasets.a.weight.weight=2")


@pytest.mark.parametrize(
    "override", ["mixture.train_fraction=0.2", "train.packing=true", "train.dataloader_drop_last=true"]
)
def test_what_changes_the_length_of_an_epoch_is_varied_at_a_number_of_steps_only(config, override):
    check(config(), override)
    with pytest.raises(ConfigError, match=f"--vary {override.partition('=')[0]}: .*set train.max_steps in CONFIG"):
        check(config(train={"num_train_epochs": 1}), override)
