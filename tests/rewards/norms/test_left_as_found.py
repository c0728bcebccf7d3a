"""A measurement leaves the model, its gradients and every random stream as they were."""

# ruff: noqa: NPY002 (the legacy stream is what must be left alone)

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from hbo.rewards.norms.left_as_found import left_as_found


def mixed_model():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 2))
    model[0].eval()  # a submodule in another mode than its parent
    model[2].bias.requires_grad_(False)
    model[0].weight.grad = torch.randn(3, 3)
    return model


def spoil(model):
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model(torch.ones(4, 3)).sum().backward()
    model.train()
    torch.rand(3), random.random(), np.random.rand()


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_before_also_after_an_exception(fails):
    model = mixed_model()
    grad, value = model[0].weight.grad, model[0].weight.grad.clone()
    streams = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        with left_as_found(model):
            assert not any(module.training for module in model.modules())
            assert all(parameter.grad is None for parameter in model.parameters())
            spoil(model)
            if fails:
                raise KeyError("body")
    except KeyError:
        assert fails

    assert [module.training for module in model.modules()] == [True, False, True, True]
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, True, False]
    assert model[0].weight.grad is grad and torch.equal(grad, value)
    assert [parameter.grad for parameter in list(model.parameters())[1:]] == [None, None, None]
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert random.getstate() == streams[1]
    after = np.random.get_state()
    assert np.array_equal(after[1], streams[2][1]) and after[2:] == streams[2][2:]
