"""What all rows begin with is multiplied once, and every number stays that of each row alone."""

from __future__ import annotations

import pytest
import torch
from accelerate.utils import convert_outputs_to_fp32
from tiny_models import FAMILIES, assert_exact, one_at_a_time, padded, tiny
from torch.overrides import TorchFunctionMode

from hbo.rewards.gradients import per_example_gradient_norms

OPENING = 5


def alike_at_first(lengths=(20, 9, 11, 7)):
    batch = padded(lengths)
    batch["input_ids"][:, :OPENING] = batch["input_ids"][0, :OPENING]
    batch["labels"][:, :OPENING] = -100
    return batch


class Tokens(TorchFunctionMode):
    """How many tokens each linear layer was given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.linear:
            self.seen.append(args[0].shape[:-1].numel())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_with_a_common_opening_are_measured_exactly(family):
    assert_exact(tiny(family), alike_at_first())


@pytest.mark.parametrize(("batch", "spared"), [(alike_at_first(), 3 * OPENING), (padded(), 0)], ids=["alike", "unlike"])
def test_the_opening_is_multiplied_once(batch, spared):
    model = tiny()
    per_example_gradient_norms(model, batch)  # looks at the model once
    with Tokens() as tokens:
        per_example_gradient_norms(model, batch)
    head = int((batch["labels"][:, 1:] != -100).sum())
    assert set(tokens.seen) == {batch["input_ids"].numel() - spared, head}


def test_rows_that_begin_alike_but_are_not_treated_alike_are_measured_exactly():
    model = tiny()
    batch = alike_at_first()
    ids = batch["input_ids"]

    def by_last_token(layer, args, output):
        """Adds what only the whole row says: its first token after the opening."""
        return output + args[0][:, OPENING, None, None] / 97

    model.model.embed_tokens.register_forward_hook(by_last_token)
    assert len(set(ids[:, OPENING].tolist())) == len(ids)
    assert_exact(model, batch)


@pytest.mark.parametrize("own", [False, True], ids=["around the model", "in its forward"])
def test_under_autocast_the_layers_are_asked_as_they_are(own):
    model, batch = tiny(), alike_at_first()
    if own:  # as accelerate does
        model.forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(model.forward))
    with torch.autocast("cpu", torch.bfloat16, enabled=not own), Tokens() as tokens:
        found = per_example_gradient_norms(model, batch)
    assert batch["input_ids"].numel() in tokens.seen
    torch.testing.assert_close(found, one_at_a_time(tiny(), batch)[0], rtol=3e-2, atol=0)
