import numpy as np
import pytest
import torch
from conftest import tiny_model, token_rows

from hbo.scoring.batches import pad
from hbo.training.attach import groups_of
from hbo.training.meter import Meter

ROWS = token_rows(sizes=(6, 4))


def forward(model, numbers):
    batch = pad([(np.array(ROWS[i]["input_ids"]), np.array(ROWS[i]["labels"])) for i in numbers], 1)
    return model(**batch)


def test_losses_are_booked_on_the_group_of_their_row():
    model = tiny_model().train()
    meter = Meter(groups_of(ROWS))
    meter.attach(model)
    meter.expect([np.array([0, 7]), np.array([3])])
    forward(model, [0, 7])
    forward(model, [3])
    sums, tokens = meter.read()
    for number, (k, j) in {0: (0, 0), 7: (1, 1), 3: (0, 1)}.items():
        targets = sum(label != -100 for label in ROWS[number]["labels"])
        assert tokens[k, j] == targets
        assert sums[k, j] == pytest.approx(forward(model, [number]).loss.item() * targets, rel=1e-5)
    assert tokens[1, 0] == 0
    assert meter.read()[1].sum() == 0


def test_evaluation_and_passes_without_labels_are_not_booked():
    model = tiny_model()
    meter = Meter(groups_of(ROWS))
    meter.attach(model)
    meter.expect([np.array([2])])
    forward(model.eval(), [1])
    model.train()(torch.tensor([[5, 6, 7]]))
    assert meter.read()[1].sum() == 0
    forward(model, [2])
    assert meter.read()[1][0, 0] > 0


def test_listening_changes_no_gradient():
    gradients = []
    for listens in (False, True):
        model = tiny_model().train()
        meter = Meter(groups_of(ROWS))
        if listens:
            meter.attach(model)
            meter.expect([np.array([0, 7])])
        forward(model, [0, 7]).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_after_detaching_nothing_is_booked():
    model = tiny_model().train()
    meter = Meter(groups_of(ROWS))
    meter.attach(model)
    meter.detach()
    meter.expect([np.array([0])])
    forward(model, [0])
    assert meter.read()[1].sum() == 0
