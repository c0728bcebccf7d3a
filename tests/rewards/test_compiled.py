"""Models of which layers are compiled one by one ("regional compilation")."""

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import LlamaConfig, LlamaForCausalLM

from hbo.rewards.gradients import looped_gradient_norms, per_example_gradient_norms, settle

SIZES = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}


def tiny_model():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_attention_heads=2))


def compile_in_place(layers):
    for layer in layers:
        layer.compile(backend="eager")


def wrap(layers):
    for place, layer in enumerate(layers):
        layers[place] = torch.compile(layer, backend="eager")


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="torch runs compiled layers as written since 2.6")
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the compiler itself
@pytest.mark.parametrize("compiled", [compile_in_place, wrap])
def test_compiled_layers_are_measured_rightly_and_never_compiled_anew(compiled):
    ids = torch.randint(2, 50, (4, 9), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    expected = looped_gradient_norms(tiny_model(), batch)
    torch._dynamo.reset()
    counters.clear()
    model = tiny_model()
    compiled(model.model.layers)
    facts = settle(model, batch)
    assert facts.batched

    def step():
        model.train()
        model(**batch).loss.backward()
        model.zero_grad()

    step()
    compilations = counters["stats"]["unique_graphs"]
    assert compilations
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(2):
            torch.testing.assert_close(per_example_gradient_norms(model, batch, facts=facts), expected)
            step()
    assert counters["stats"]["unique_graphs"] == compilations
