"""Plain autograd, one row at a time: what everything else is compared with must be right whatever the model does."""

from __future__ import annotations

import pytest
import torch
from tiny_models import one_at_a_time, padded, tiny
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

from hbo.rewards.gradients import looped_gradient_norms
from hbo.rewards.norms import loop
from hbo.scoring.targets import Targets


class Gated(nn.Module):
    """An RNN keeps a list of its own parameters, which nobody can swap."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(32, 32, batch_first=True)

    def forward(self, x):
        return x + self.gru(x)[0]


class Reentrant(nn.Module):
    """Runs its block anew in the backward, by code that reenters autograd."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=True)


def with_rnn(model):
    model.model.layers[0].mlp = Gated()


def with_reentrant_block(model):
    model.model.layers[0].mlp = Reentrant(model.model.layers[0].mlp)


def with_block_used_inside_and_outside(model):
    model.model.layers[1].mlp = Reentrant(model.model.layers[0].mlp)


def with_closure(model):
    mlp = model.model.layers[0].mlp
    weight = mlp.gate_proj.weight
    mlp.forward = lambda x: mlp.down_proj(nn.functional.silu(x @ weight.T) * mlp.up_proj(x))


@pytest.mark.parametrize(
    "change",
    [with_rnn, with_reentrant_block, with_block_used_inside_and_outside, with_closure],
    ids=lambda f: f.__name__,
)
def test_gradients_that_go_past_a_swapped_parameter_are_counted(change):
    model, batch = tiny(), padded((9, 4))
    change(model)
    expected = plain(model, batch)
    torch.testing.assert_close(looped_gradient_norms(model, batch), expected, rtol=1e-5, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())


def plain(model, batch):
    """As `one_at_a_time`, on the model itself: a copy's closures would be those of the original."""
    was_training, norms = model.training, []
    model.eval()
    for r in range(len(batch["labels"])):
        real = batch["attention_mask"][r].bool()
        model(**{name: tensor[r : r + 1, real] for name, tensor in batch.items()}).loss.backward()
        norms.append(sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None).sqrt())
        model.zero_grad()
    model.train(was_training)
    return torch.stack(norms)


def test_gradients_are_dropped_as_they_come(monkeypatch):
    model, batch, alive, most = tiny("llama-tied"), padded((9, 4)), [], []
    square = loop.square

    def counted(gradient):
        alive.append(StorageWeakRef(gradient.untyped_storage()))
        most.append(sum(not each.expired() for each in alive))
        return square(gradient)

    monkeypatch.setattr(loop, "square", counted)
    looped_gradient_norms(model, batch)
    assert len(most) == 2 * len(list(model.parameters()))
    assert max(most) <= 3


def test_each_parameter_has_its_own_square_and_those_without_a_part_have_none():
    model = tiny("llama-biases").eval()
    model.extra = nn.Parameter(torch.ones(3))
    targets = Targets.of(padded((9, 4)), torch.device("cpu"))
    with torch.enable_grad():
        squares, loss = loop.squares_of_row(model, targets, 0)
    norms, losses = one_at_a_time(model, padded((9, 4)))
    assert set(squares) == {name for name, _ in model.named_parameters()} - {"extra"}
    torch.testing.assert_close(loop.total(squares, loss.device), norms[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(loss, losses[0])
