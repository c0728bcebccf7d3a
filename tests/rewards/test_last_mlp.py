"""The last MLP runs for targets only, unless something else reads it."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import FAMILIES, assert_exact, one_at_a_time, padded, tiny
from torch import nn

from hbo.rewards.gradients import gradient_norms_and_losses, per_example_gradient_norms


def layers_of(model):
    return max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len)


def tokens_of_mlps(model, batch):
    """How many tokens each layer's MLP is given, when the batch is measured."""
    seen = [0] * len(layers_of(model))
    per_example_gradient_norms(model, batch)  # tries the model out
    handles = []
    for at, layer in enumerate(layers_of(model)):

        def count(module, args, output, at=at):
            seen[at] += args[0].shape[:-1].numel()

        inner = next(m for m in layer.mlp.modules() if next(m.children(), None) is None)
        handles.append(inner.register_forward_hook(count))
    per_example_gradient_norms(model, batch)
    for handle in handles:
        handle.remove()
    return seen


def targets_and_tokens(batch):
    return int((batch["labels"][:, 1:] != -100).sum()), batch["input_ids"].numel()


@pytest.mark.parametrize("family", FAMILIES)
def test_targets_alone_pass_the_last_mlp_and_every_norm_is_exact(family):
    model, batch = tiny(family), padded()
    targets, tokens = targets_and_tokens(batch)
    assert tokens_of_mlps(model, batch) == [tokens, targets]
    assert_exact(model, batch)


def test_rows_of_targets_are_run_as_they_are():
    batch = padded((9, 9))
    batch["labels"] = batch["input_ids"].clone()
    assert tokens_of_mlps(tiny(), batch) == [18, 18]


def test_what_passes_is_up_to_the_batch_and_not_to_those_before_it():
    model, batch = tiny(), padded((9, 4))
    batch["labels"] = torch.where(batch["attention_mask"] == 1, batch["input_ids"], -100)  # nothing spared but padding
    first, _ = gradient_norms_and_losses(model, batch)
    per_example_gradient_norms(model, padded())
    assert torch.equal(gradient_norms_and_losses(model, batch)[0], first)
    assert tokens_of_mlps(model, batch) == [18, 18]


def test_adapters_of_the_last_mlp_are_exact():
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["up_proj", "down_proj", "q_proj"], init_lora_weights=False)
    model, batch = get_peft_model(tiny(), config), padded()
    targets, tokens = targets_and_tokens(batch)
    assert tokens_of_mlps(model, batch) == [tokens, targets]
    norms, _ = gradient_norms_and_losses(model, batch)
    rows = [
        {name: each[r : r + 1, : batch["attention_mask"][r].sum()] for name, each in batch.items()} for r in range(4)
    ]
    model.eval()
    for row, norm in zip(rows, norms, strict=True):
        model.zero_grad()
        model(**row).loss.backward()
        grads = [p.grad.square().sum() for p in model.parameters() if p.grad is not None]
        torch.testing.assert_close(norm, torch.stack(grads).sum().sqrt(), rtol=1e-4, atol=0)


def behind_the_layers(model):
    """Adds to each token those before it, so that the head's targets read all of them."""
    model.model.norm.register_forward_pre_hook(lambda module, args: (args[0] + 0.1 * args[0].cumsum(1),))


def in_the_mlp(model):
    model.model.layers[-1].mlp.act_fn = Before()


def as_first_mlp_too(model):
    model.model.layers[0].mlp = model.model.layers[1].mlp


def with_a_norm_inside(model):
    model.model.layers[-1].mlp.act_fn = nn.Sequential(nn.SiLU(), nn.LayerNorm(48))


class Before(nn.Module):
    """Each token's activation, with the one before it."""

    def forward(self, x):
        return nn.functional.silu(x + 0.3 * x.roll(1, dims=-2))


class Picky(nn.Module):
    """An MLP that wants rows of tokens."""

    def __init__(self, mlp):
        super().__init__()
        self.mlp = mlp

    def forward(self, x):
        B, T, size = x.shape
        return self.mlp(x.reshape(B * T, size)).reshape(B, T, size)


def for_rows_only(model):
    model.model.layers[-1].mlp = Picky(model.model.layers[-1].mlp)


@pytest.mark.parametrize(
    "change", [behind_the_layers, in_the_mlp, as_first_mlp_too, with_a_norm_inside], ids=lambda each: each.__name__
)
def test_an_mlp_whose_other_tokens_are_read_runs_for_all_of_them(change):
    model, batch = tiny(), padded((20, 16, 11, 7))
    change(model)
    _, tokens = targets_and_tokens(batch)
    assert tokens_of_mlps(model, batch)[-1] == tokens * (1 + (change is as_first_mlp_too))
    if change is not in_the_mlp:  # of which padding in front is read by the first token, alone or not
        assert_exact(model, batch)


def test_an_mlp_that_fails_on_targets_alone_is_run_as_it_is():
    model, batch = tiny(), padded()
    for_rows_only(model)
    with pytest.warns(UserWarning, match="one row at a time"):  # its layers aren't given rows either
        found, _ = gradient_norms_and_losses(model, batch)
    torch.testing.assert_close(found, one_at_a_time(model, batch)[0], rtol=1e-4, atol=0)
