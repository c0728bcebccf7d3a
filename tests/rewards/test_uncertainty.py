"""MultiUAT's rewards against their formulas, one token at a time."""

import numpy as np
import pytest
import torch
from test_probe import batch_of, mixture
from tiny_models import tiny

from hbo.rewards import uncertainty
from hbo.rewards.passes import Passes, Sets
from hbo.rewards.uncertainty import statistics
from hbo.scoring.room import Room

ROWS = [0, 4, 13]
KINDS = ("entropy", "eos_entropy", "expected_probability", "sequence_probability", "variance", "combined", "dev_loss")


def measured(kind, model):
    sets = Sets(Passes(mixture()[0], 0, Room()), [], [np.array(ROWS)])
    return getattr(uncertainty, kind)(model, sets).item()


def by_hand(model, number):
    """(H_t, a_t, loss_t) at every target of one row."""
    batch = batch_of(mixture()[0], [number])
    with torch.no_grad():
        log_p = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[0].double().log_softmax(-1)
    found = []
    for t, label in enumerate(batch["labels"][0].tolist()):
        if label != -100:
            before = log_p[t - 1]
            found.append([-(before.exp() * before).sum().item(), before.max().item(), -before[label].item()])
    return np.array(found).T


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_its_formula(kind):
    model = tiny().eval()
    H, a, loss = zip(*(by_hand(model, number) for number in ROWS), strict=True)
    expected = {
        "entropy": np.concatenate(H).mean(),
        "eos_entropy": np.mean([h[-1] for h in H]),
        "expected_probability": 1 - np.mean([np.exp(x.mean()) for x in a]),
        "sequence_probability": 1 - np.mean([np.exp(x.sum()) for x in a]),
        "variance": np.mean([np.var(x) for x in a]),
        "combined": np.mean([np.exp(np.var(x) / x.mean()) for x in a]),
        "dev_loss": np.concatenate(loss).mean(),
    }
    assert measured(kind, model) == pytest.approx(expected[kind], rel=1e-4)


def test_a_row_without_a_target_is_nan_and_harms_no_other():
    model, batch = tiny().eval(), batch_of(mixture()[0], ROWS)
    whole = statistics(model, batch)
    batch["labels"][1] = -100
    found = statistics(model, batch)
    assert found.shape == (7, 3)
    assert np.isnan(found[:, 1]).all()
    assert found[:, [0, 2]] == pytest.approx(whole[:, [0, 2]], rel=1e-5)


def test_a_certain_model_has_no_uncertainty(monkeypatch):
    """Padding and masks (−inf logits) included."""
    sure = np.array([[3.0]] + 6 * [[0.0]])
    monkeypatch.setattr(uncertainty, "statistics", lambda model, batch: sure.repeat(len(batch["labels"]), axis=1))
    model = tiny()
    assert measured("entropy", model) == measured("variance", model) == 0
    assert measured("combined", model) == 1
