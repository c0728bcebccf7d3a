"""Padding is masked only for models that look at it."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from tiny_models import GROUPED, assert_exact, padded, tiny

from hbo.rewards import ghost
from hbo.rewards.gradients import per_example_gradient_norms


@pytest.fixture(autouse=True)
def _no_other_trials(monkeypatch):
    """A model's last MLP is tried out as well, by forwards that would be counted here."""
    monkeypatch.setattr(ghost, "last_mlp", lambda model, targets: None)


class LooksAhead(hf.LlamaForCausalLM):
    """Adds to each token the mean of all that the mask shows."""

    def forward(self, input_ids, attention_mask=None, **kwargs):
        seen = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        embedded = self.model.embed_tokens(input_ids)
        mean = (embedded * seen[..., None]).sum(1, keepdim=True) / seen.sum(1)[:, None, None]
        return super().forward(inputs_embeds=embedded + mean, attention_mask=attention_mask, **kwargs)


def masks(model, batch):
    """Whether each forward of the model was given a mask."""
    given = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs.get("attention_mask") is not None), with_kwargs=True
    )
    per_example_gradient_norms(model, batch)
    handle.remove()
    return given


def test_a_model_that_looks_ahead_keeps_its_mask():
    torch.manual_seed(0)
    model = LooksAhead(hf.LlamaConfig(**GROUPED))
    assert_exact(model, padded())
    assert masks(model, padded()) == [True]


class NeedsMask(hf.LlamaForCausalLM):
    def forward(self, input_ids, attention_mask=None, **kwargs):
        return super().forward(input_ids, attention_mask=attention_mask.long(), **kwargs)


def test_a_model_that_fails_without_its_mask_gets_it():
    torch.manual_seed(0)
    model = NeedsMask(hf.LlamaConfig(**GROUPED))
    assert_exact(model, padded())
    assert masks(model, padded()) == [True]


def test_autocast_inside_the_model_is_no_reason_for_a_mask():
    model = tiny()
    model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)
    assert masks(model, padded()) == [True, False, False, False]


def test_a_causal_model_is_asked_once_and_then_does_without():
    model = tiny()
    assert masks(model, padded()) == [True, False, False, False]  # three of one row that are compared, and the batch
    assert masks(model, padded((30, 2))) == [False]


def test_a_batch_without_padding_is_treated_alike_before_and_after_the_model_is_known():
    model = tiny()
    assert masks(model, padded((5, 5))) == [True]
    masks(model, padded())
    assert masks(model, padded((5, 5))) == [True]


def test_the_first_padding_decides_also_behind_a_row_without_targets():
    model, batch = tiny(), padded((2, 6))
    assert masks(model, padded((6, 6))) == [True]
    batch["labels"][0] = -100
    assert masks(model, batch) == [True, False, False, False]


def test_padding_in_front_is_masked():
    model = tiny()
    assert masks(model, padded(left=True)) == [True]
    assert_exact(model, padded(left=True))
