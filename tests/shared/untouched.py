"""What a measurement must leave as it was."""

from contextlib import contextmanager

import torch


@contextmanager
def untouched(model):
    """The block changes no weight, gradient, mode or random number; one parameter has a gradient of the trainer's."""
    one = next(p for p in model.parameters() if p.requires_grad)
    one.grad = mine = torch.ones_like(one)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    yield
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert sum(p.grad is not None for p in model.parameters()) == 1
    assert one.grad is mine
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
