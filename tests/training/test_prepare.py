"""What scoring hands on to training."""

import numpy as np
import pytest
import torch
from tiny_training import token_rows

from hbo.config import RunConfig
from hbo.errors import ConfigError, HBOError
from hbo.run.arguments import training_arguments
from hbo.run.model import load_weights
from hbo.run.scored_rows import grouped
from hbo.scoring.scores import Scores


@pytest.mark.parametrize(
    ("precision", "bf16", "kept"), [("fp32", False, True), ("fp32", True, False), ("bf16", True, True)]
)
def test_a_reference_of_another_precision_than_training_is_measured_again(precision, bf16, kept, tmp_path):
    config = RunConfig(
        model="m",
        output=str(tmp_path),
        mixture={"datasets": {"a": "a.jsonl", "b": "b.jsonl"}},
        difficulty={"groups": 2, "metric": "loss", "precision": precision},
        train={"bf16": bf16},
    )
    rows = token_rows()
    train = rows.remove_columns("hbo_level").add_column("hbo_row", list(range(len(rows))))
    loss_N = np.linspace(1, 2, len(rows))
    scores = Scores(loss_N, loss_N + 1, np.ones(len(rows), dtype=int), "perplexity_ratio")
    found = grouped(config, train, scores, training_arguments(config))
    assert set(found["hbo_level"]) == {0, 1}
    assert ("hbo_reference" in found.column_names) is kept


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_what_transformers_is_to_be_told_of_the_model_reaches_it(implementation, model_folder, tmp_path):
    options = {"attn_implementation": implementation, "dtype": "bfloat16"}
    config = RunConfig(
        model=str(model_folder),
        output=str(tmp_path),
        mixture={"datasets": {"a": "a.jsonl"}},
        train={"bf16": False, "model_init_kwargs": options},
    )
    model = load_weights(str(model_folder), training_arguments(config))
    assert model.config._attn_implementation == implementation
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "words"),
    [({"no_such_option": 1}, "no_such_option"), ({"trust_remote_code": True}, "train.trust_remote_code")],
)
def test_options_of_the_model_that_mean_nothing_are_refused(options, words, model_folder, tmp_path):
    train = {"bf16": False, "model_init_kwargs": options}
    mixture = {"datasets": {"a": "a.jsonl"}}
    config = RunConfig(model=str(model_folder), output=str(tmp_path), mixture=mixture, train=train)
    with pytest.raises(HBOError, match=words):
        load_weights(str(model_folder), training_arguments(config))


@pytest.mark.parametrize(
    ("native", "given", "bf16"),
    [
        (False, {}, False),
        (False, {"bf16": True}, True),
        (False, {"use_cpu": True, "fp16": False}, False),
        (True, {}, True),
    ],
)
def test_bf16_is_the_default_only_where_a_cpu_multiplies_in_it(monkeypatch, tmp_path, native, given, bf16):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    mixture = {"datasets": {"a": "a.jsonl"}}
    config = RunConfig(model="m", output=str(tmp_path), mixture=mixture, train=given)
    assert training_arguments(config).bf16 is bf16


def test_the_easiest_rows_of_each_dataset_are_dropped_before_groups_are_cut(tmp_path):
    config = RunConfig(
        model="m",
        output=str(tmp_path),
        mixture={"datasets": {"a": "a.jsonl", "b": "b.jsonl"}},
        difficulty={"groups": 2, "metric": "loss", "drop_easiest": 0.3, "precision": "fp32"},
        train={"bf16": False},
    )
    rows = token_rows((10, 5))
    train = rows.remove_columns("hbo_level").add_column("hbo_row", list(range(len(rows))))
    loss_N = np.random.default_rng(0).permutation(len(rows)).astype(float)
    scores = Scores(loss_N, loss_N + 1, np.ones(len(rows), dtype=int), "perplexity_ratio")
    found = grouped(config, train, scores, training_arguments(config))
    for name, first, last, left in (("a", 0, 10, 7), ("b", 10, 15, 4)):
        mine = found.filter(lambda row, name=name: row["hbo_dataset"] == name)
        hardest = np.sort(loss_N[first:last])[-left:]
        assert sorted(mine["hbo_reference"]) == hardest.tolist()  # each row still has its own score
        assert [loss_N[row] for row in mine["hbo_row"]] == mine["hbo_reference"][:]
        levels = dict(zip(mine["hbo_reference"], mine["hbo_level"], strict=True))
        assert [levels[loss] for loss in hardest.tolist()] == [0] * (left - left // 2) + [1] * (left // 2)


def test_dropping_rows_of_packed_epochs_is_refused(tmp_path):
    config = RunConfig(
        model="m",
        output=str(tmp_path),
        mixture={"datasets": {"a": "a.jsonl"}},
        difficulty={"drop_easiest": 0.3},
        train={"packing": True},
    )
    with pytest.raises(ConfigError, match="set train.max_steps"):
        training_arguments(config)
