"""What scoring hands on to training."""

import numpy as np
import pytest
from tiny_training import token_rows

from hbo.config import RunConfig
from hbo.run.arguments import training_arguments
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
    found, _ = grouped(config, train, scores, training_arguments(config))
    assert set(found["hbo_level"]) == {0, 1}
    assert ("hbo_reference" in found.column_names) is kept


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
    found, _ = grouped(config, train, scores, training_arguments(config))
    for name, first, last, left in (("a", 0, 10, 7), ("b", 10, 15, 4)):
        mine = found.filter(lambda row, name=name: row["hbo_dataset"] == name)
        hardest = np.sort(loss_N[first:last])[-left:]
        assert sorted(mine["hbo_reference"]) == hardest.tolist()  # each row still has its own score
        assert [loss_N[row] for row in mine["hbo_row"]] == mine["hbo_reference"][:]
        levels = dict(zip(mine["hbo_reference"], mine["hbo_level"], strict=True))
        assert [levels[loss] for loss in hardest.tolist()] == [0] * (left - left // 2) + [1] * (left // 2)
