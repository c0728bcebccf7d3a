"""Models that accelerate spreads over devices or offloads, as far as a CPU shows it."""

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from transformers import LlamaConfig, LlamaForCausalLM

from hbo.errors import RewardError
from hbo.rewards.gradients import looped_gradient_norms, per_example_gradient_norms, settle
from hbo.scoring.devices import device_of, to_device
from hbo.scoring.head import head_of
from hbo.scoring.losses import Scorer

CPU = torch.device("cpu")
IDS = torch.randint(2, 50, (4, 9), generator=torch.Generator().manual_seed(0))
BATCH = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "labels": IDS}


def tiny_model():
    """Its last block and its head are trained."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layers.1" in name or "lm_head" in name)
    return model


def dispatched(model):
    parts = ("model.embed_tokens", "model.layers", "model.norm", "model.rotary_emb", "lm_head")
    return dispatch_model(model, dict.fromkeys(parts, "cpu"), main_device="cpu", force_hooks=True)


def frozen_offloaded(model):
    for layer in (model.model.embed_tokens, model.model.layers[0]):
        cpu_offload(layer, execution_device=CPU)
    assert next(model.parameters()).is_meta
    return model


@pytest.mark.parametrize("placed", [dispatched, frozen_offloaded])
def test_layers_behind_accelerates_hooks_are_measured_a_batch_at_a_time(placed):
    expected, losses = looped_gradient_norms(tiny_model(), BATCH), Scorer(tiny_model()).losses(BATCH)
    model = placed(tiny_model())
    facts = settle(model, BATCH)
    assert facts.batched
    assert not facts.rerun
    assert head_of(model) is not None  # its logits come a slice at a time
    assert device_of(model) == CPU
    torch.testing.assert_close(per_example_gradient_norms(model, BATCH, facts=facts), expected)
    torch.testing.assert_close(looped_gradient_norms(model, BATCH), expected)
    torch.testing.assert_close(Scorer(model).losses(BATCH), losses)


def test_an_offloaded_head_is_passed_as_the_model_does():
    model = tiny_model()
    model.lm_head.weight.requires_grad_(False)
    expected = looped_gradient_norms(model, BATCH)
    cpu_offload(model.lm_head, execution_device=CPU)
    torch.testing.assert_close(per_example_gradient_norms(model, BATCH), expected)


def test_offloaded_trainable_weights_are_refused():
    model = tiny_model()
    cpu_offload(model.model.layers[1], execution_device=CPU)
    with pytest.raises(RewardError, match="offloaded"):
        settle(model, BATCH)


class Moves(torch.nn.Linear):
    def to(self, device):
        self.sent = device
        return self


@pytest.mark.parametrize(
    ("places", "is_sent"), [({"a": 0, "b": 1}, False), ({"a": 0, "b": "cpu"}, False), ({"": 0}, True)]
)
def test_a_model_on_several_devices_stays_there(places, is_sent):
    model = Moves(2, 2)
    model.hf_device_map = places
    to_device(model, CPU)
    assert hasattr(model, "sent") == is_sent
