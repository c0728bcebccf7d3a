"""The head by slices is the model's own head, or isn't taken for it."""

import pytest
import torch
import transformers as hf

from hbo.errors import RewardError
from hbo.scoring import head
from hbo.scoring.head import head_of, target_logits, through_head, token_losses
from hbo.scoring.targets import Targets

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
MODELS = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=0.5)),
    "cohere": lambda: hf.CohereForCausalLM(hf.CohereConfig(**SIZES, logit_scale=0.3)),
    "granite": lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**SIZES, logits_scaling=3.0)),
    "recurrent gemma": lambda: hf.RecurrentGemmaForCausalLM(
        hf.RecurrentGemmaConfig(
            **{**SIZES, "num_hidden_layers": 3}, lru_width=32, head_dim=8, attention_window_size=16, logits_soft_cap=0.5
        )
    ),
    "xlstm": lambda: hf.xLSTMForCausalLM(
        hf.xLSTMConfig(vocab_size=97, hidden_size=32, num_heads=4, num_blocks=1, output_logit_soft_cap=0.5)
    ),
}


def made(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def targets():
    ids = torch.randint(0, 97, (2, 6), generator=torch.Generator().manual_seed(0))
    return Targets.of({"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}, torch.device("cpu"))


@pytest.mark.parametrize("name", MODELS)
def test_the_head_makes_of_hidden_states_what_the_model_does(name):
    model, asked, seen = made(name), targets(), []
    with torch.no_grad():
        known = through_head(model, head_of(model), asked, seen.append, use_cache=False)
        assert bool(known) and seen[0].shape == (10, 32)
        torch.testing.assert_close(head_of(model).logits(seen[0]), target_logits(model, asked, use_cache=False))


@pytest.mark.parametrize(
    "change", [lambda logits: logits * 1.1, lambda logits: 30 * (logits / 30).tanh()], ids=["factor", "cap"]
)
def test_a_head_that_does_more_is_not_taken_for_a_plain_one(change):
    model, seen = made("llama"), []
    model.lm_head.register_forward_hook(lambda layer, args, output: change(output))
    with torch.no_grad():
        assert not bool(through_head(model, head_of(model), targets(), seen.append, use_cache=False))
    assert len(model.lm_head._forward_hooks) == 1 and not model.lm_head._forward_pre_hooks


def test_a_patched_or_other_head_has_no_slices():
    model = made("llama")
    model.lm_head.forward = lambda hidden: hidden
    assert head_of(model) is None
    model.lm_head = torch.nn.Sequential(torch.nn.Linear(32, 97))
    assert head_of(model) is None


def test_a_model_that_skips_its_head_is_refused():
    model = made("llama")
    plain = head_of(model)
    model.lm_head = torch.nn.Linear(32, 97)  # no longer the layer that is watched
    with pytest.raises(RewardError, match="doesn't call its head"):
        through_head(model, plain, targets(), lambda hidden: None, use_cache=False)
    assert not plain.layer._forward_hooks and not plain.layer._forward_pre_hooks


@pytest.mark.parametrize("slice_", [1, 200, 2**20])
def test_losses_do_not_depend_on_the_slices(monkeypatch, slice_):
    monkeypatch.setattr(head, "_CPU_SLICE", slice_)
    torch.manual_seed(0)
    logits, label = torch.randn(7, 97), torch.randint(0, 97, (7,))
    expected = torch.nn.functional.cross_entropy(logits, label, reduction="none")
    torch.testing.assert_close(token_losses(logits, label), expected)
