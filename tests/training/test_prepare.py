"""What scoring hands on to training."""

import numpy as np
import pytest
from conftest import token_rows

from hbo.config import RunConfig
from hbo.scoring.scores import Scores
from hbo.training import prepare


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
    found = prepare.grouped(config, train, scores, prepare.training_arguments(config))
    assert set(found["hbo_level"]) == {0, 1}
    assert ("hbo_reference" in found.column_names) is kept
