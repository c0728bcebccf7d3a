import math

import pytest
import torch
from tiny_training import tiny_model, token_rows

from hbo.run.held_out_scores import averages, cached, held_out_losses


def test_nll_is_the_mean_over_rows_of_the_mean_over_targets():
    model, rows = tiny_model(), token_rows(sizes=(5, 3))
    found = held_out_losses(model, rows, ["a", "b"], pad_token_id=1, phase="held-out")
    losses = []
    for row in rows:
        if row["hbo_dataset"] == "b":
            with torch.no_grad():
                losses.append(model(torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss.item())
    assert found["b"]["n"] == 3
    assert found["b"]["nll"] == pytest.approx(sum(losses) / 3, rel=1e-5)
    assert found["b"]["perplexity"] == pytest.approx(math.exp(sum(losses) / 3), rel=1e-5)


def test_averages_weigh_every_dataset_alike():
    after = {"a": {"nll": 1.0}, "b": {"nll": 3.0}}
    before = {"a": {"nll": 2.0}, "b": {"nll": 4.0}}
    assert averages(after, before) == {"macro_nll": 2.0, "relative_nll": pytest.approx((0.5 + 0.75) / 2)}
    assert averages({}, {}) == {"macro_nll": None, "relative_nll": None}


def test_a_loss_is_measured_once_per_key():
    calls = []

    def measure():
        calls.append(1)
        return {"a": {"nll": 0.1 + 0.2, "perplexity": 1.0, "n": 2}}

    assert cached("key", measure) == cached("key", measure) == measure()
    assert len(calls) == 2
    cached("other", measure)
    assert len(calls) == 3
