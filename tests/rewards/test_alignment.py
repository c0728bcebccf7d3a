"""MultiDDS's rewards and the norm per batch, against autograd and their formulas."""

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_probe import batch_of, mixture
from tiny_models import tiny
from untouched import untouched

from hbo.config import HBOConfig
from hbo.rewards.alignment import aligned, aligned_after_a_step, batch_norms
from hbo.rewards.passes import Passes, Sets
from hbo.rewards.signal_norm import signal_norm
from hbo.scoring.losses import per_example_loss
from hbo.scoring.processes import ALONE, Processes
from hbo.scoring.room import Room

ROWS, DEV = [np.array([0, 3, 5]), np.array([12, 14])], [np.array([1, 2]), np.array([13, 15, 17])]
ALL = (aligned, aligned_after_a_step, batch_norms)


def of(model, rows):
    model = copy.deepcopy(model).eval()
    per_example_loss(model, batch_of(mixture()[0], rows.tolist())).mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double().numpy()


def cos(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def measured(function, model, budget=40, processes=ALONE):
    return function(model, Sets(Passes(mixture()[0], 0, Room(), processes), ROWS, DEV, gradient_tokens=budget))


def test_the_stable_form_is_the_mean_cosine_with_every_dev_gradient():
    model = tiny()
    dev = [of(model, rows) for rows in DEV]
    expected = [np.mean([cos(of(model, rows), d) for d in dev]) for rows in ROWS]
    assert measured(aligned, model) == pytest.approx(expected, rel=1e-4)


def test_the_first_form_looks_one_small_step_ahead():
    model, expected = tiny(), []
    for rows in ROWS:
        own, ahead, at = of(model, rows), copy.deepcopy(model), 0
        with torch.no_grad():
            for parameter in ahead.parameters():
                step = torch.from_numpy(own[at : at + parameter.numel()]).float().view_as(parameter)
                parameter.sub_(0.001 * step)
                at += parameter.numel()
        expected.append(cos(own, sum(of(ahead, dev) for dev in DEV)))
    assert measured(aligned_after_a_step, model) == pytest.approx(expected, rel=1e-4)


def test_the_norm_per_batch_is_that_of_the_mean_gradient():
    model = tiny()
    expected = [np.linalg.norm(of(model, rows)) for rows in ROWS]
    assert measured(batch_norms, model) == pytest.approx(expected, rel=1e-4)
    assert measured(batch_norms, model, budget=1000) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("lora", [False, True])
def test_no_trace_is_left(function, lora):
    model = tiny()
    if lora:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    with untouched(model):
        measured(function, model)


@pytest.mark.parametrize("function", ALL)
def test_parameters_come_back_when_measuring_fails(function):
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def broken(array):
        raise RuntimeError("lost a process")

    with pytest.raises(RuntimeError, match="lost"):
        measured(function, model, processes=Processes(0, 1, broken))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_the_datasets(function, ranks):
    parts = [measured(function, tiny(), processes=Processes(rank, ranks, np.copy)) for rank in range(ranks)]
    assert sum(parts) == pytest.approx(measured(function, tiny()), rel=1e-5)


def test_the_method_multidds_is_the_stable_form_with_a_floor():
    config = HBOConfig(method="multidds")
    assert (config.global_reward, config.local_reward) == ("gradient_alignment", None)
    assert (config.probes, config.update_every, config.min_probability) == (8, 1000, 0.01)


@pytest.mark.parametrize("function", [*ALL, signal_norm])
def test_rows_without_a_target_say_nothing_and_end_no_update(function):
    model, rows = tiny(), mixture()[0]
    blank = [
        {**row, "labels": [-100] * len(row["labels"])} if i in (3, 13, 15, 17) else row for i, row in enumerate(rows)
    ]
    found = function(model, Sets(Passes(blank, 0, Room(), ALONE), ROWS, DEV, gradient_tokens=1))
    assert np.isfinite(found).all()


def test_a_dev_set_without_a_target_is_left_out_of_the_mean():
    model, rows = tiny(), mixture()[0]
    blank = [{**row, "labels": [-100] * len(row["labels"])} if i in DEV[1] else row for i, row in enumerate(rows)]
    expected = [cos(of(model, rows), of(model, DEV[0])) for rows in ROWS]
    assert aligned(model, Sets(Passes(blank, 0, Room(), ALONE), ROWS, DEV)) == pytest.approx(expected, rel=1e-4)
