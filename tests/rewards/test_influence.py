"""What a row does for all datasets, against autograd and against a small step."""

import numpy as np
import pytest
import torch
from test_alignment import DEV, of
from test_probe import batch_of, mixture
from test_signal_norm import ROWS, sets
from tiny_models import tiny
from untouched import untouched

from hbo.rewards.alignment import mean_gradient
from hbo.rewards.influence import influence, influences
from hbo.rewards.norms.left_as_found import left_as_found
from hbo.rewards.signal_norm import rooted, target_counts
from hbo.scoring.losses import per_example_loss
from hbo.scoring.processes import Processes


def test_the_influence_is_the_product_of_a_batchs_part_and_the_mean_dev_gradient():
    model = tiny()
    aim = np.mean([of(model, rows) for rows in DEV], axis=0)
    expected = []
    for rows in ROWS:
        own = [of(model, np.array([row])) * target_counts(sets(), np.array([row]))[0] for row in rows]
        expected.append(np.mean(own, axis=0) @ aim)
    assert influences(model, sets()) == pytest.approx(expected, rel=1e-3)


def test_the_influence_is_what_a_small_step_does_to_the_loss_of_all():
    model = tiny().eval()

    def loss():
        with torch.no_grad():
            means = [per_example_loss(model, batch_of(mixture()[0], rows.tolist())).double().mean() for rows in DEV]
        return float(torch.stack(means).mean())

    before, told = loss(), influences(model, sets())[0]
    with left_as_found(model):
        step = mean_gradient(model, sets(), ROWS[0], by_token=True)
    with torch.no_grad():
        for parameter, slope in zip([p for p in model.parameters() if p.requires_grad], step, strict=True):
            parameter.sub_(slope, alpha=1e-3)
    assert (before - loss()) / 1e-3 == pytest.approx(told, rel=0.1)


def test_the_reward_is_its_root():
    assert influence(tiny(), sets()) == pytest.approx(rooted(influences(tiny(), sets())), rel=1e-6)


def test_processes_share_the_datasets():
    parts = [influences(tiny(), sets(processes=Processes(rank, 2, np.copy))) for rank in range(2)]
    assert sum(parts) == pytest.approx(influences(tiny(), sets()), rel=1e-5)


def test_no_trace_is_left():
    model = tiny()
    with untouched(model):
        influence(model, sets())
