"""That a step really keeps what the model without weights does."""

import pytest
import torch
from test_memory import LENGTH, llama
from transformers import LlamaForCausalLM

from hbo.check.weightless import peak_of


def saved_bytes(model, ids_BT):
    """What autograd really keeps for the backward, each storage once and the parameters not."""
    own = {each.untyped_storage().data_ptr() for each in [*model.parameters(), *model.buffers()]}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = (tensor, tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = model.base_model(input_ids=ids_BT, use_cache=False)[0]
    assert result.requires_grad
    return sum(size for place, (_, size) in kept.items() if place not in own)


def test_a_step_of_a_real_model_keeps_about_what_the_fake_one_does():
    model = LlamaForCausalLM(llama()).train()
    real = saved_bytes(model, torch.zeros((4, LENGTH), dtype=torch.long))

    def forward(made):
        return made.base_model(input_ids=torch.zeros((4, LENGTH), dtype=torch.long), use_cache=False)[0]

    assert peak_of(LlamaForCausalLM, llama(), forward) == pytest.approx(real, rel=0.3)
