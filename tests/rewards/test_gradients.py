"""Gradient norms of a padded batch equal autograd's, one unpadded example at a time."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers as hf
from accelerate.utils import convert_outputs_to_fp32
from peft import LoraConfig, get_peft_model
from tiny_models import FAMILIES, GROUPED, assert_exact, checkpoint_layers, one_at_a_time, padded, tiny

from hbo.errors import RewardError
from hbo.rewards.gradients import gradient_norms_and_losses, looped_gradient_norms, per_example_gradient_norms


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_norms_equal_autograd_one_example_at_a_time(family, left):
    model, batch = tiny(family), padded(left=left)
    facts = assert_exact(model, batch)
    torch.testing.assert_close(looped_gradient_norms(model, batch), one_at_a_time(model, batch)[0], rtol=1e-4, atol=0)
    # So short that inner products of tokens are cheaper to take.
    assert_exact(model, padded((8, 3, 7, 5), left=left), facts=facts)


@pytest.mark.parametrize("lengths", [(9,), (2, 60, 2, 31), (60, 58, 57)], ids=["one row", "uneven", "long"])
@pytest.mark.parametrize("family", ["llama-tied", "gpt2"])
def test_norms_are_exact_for_batches_of_any_shape(family, lengths):
    assert_exact(tiny(family), padded(lengths))


def test_the_padding_side_and_the_first_token_make_no_difference():
    model = tiny()
    right, left = padded(), padded(left=True)
    for batch in (right, left):  # every real token a target; nothing real predicts the first
        batch["labels"] = torch.where(batch["attention_mask"].bool(), batch["input_ids"], -100)
    torch.testing.assert_close(per_example_gradient_norms(model, right), per_example_gradient_norms(model, left))
    assert_exact(model, left)


@pytest.mark.parametrize(
    "trainable",
    ["norm", "embed_tokens", "lm_head", "layers.1", "self_attn.q_proj", "layers.0.mlp.up_proj.bias", "bias"],
)
def test_only_trainable_parameters_count(trainable):
    model = tiny("llama-biases")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trainable in name)
    assert_exact(model, padded())


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("targets", [["q_proj", "down_proj"], ["v_proj", "lm_head"]])
def test_adapters_are_measured_alone(targets, checkpointing):
    model = get_peft_model(tiny(), LoraConfig(r=4, target_modules=targets, lora_dropout=0.3))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    if checkpointing:
        checkpoint_layers(model)
    assert_exact(model, padded())


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("family", ["llama-tied", "gpt2"])
def test_gradient_checkpointing_changes_nothing(family, use_reentrant):
    model = tiny(family)
    checkpoint_layers(model, {"use_reentrant": use_reentrant})
    assert_exact(model, padded())


@pytest.mark.parametrize("least", [0.5, 0.0], ids=["weights", "one weight of nothing"])
def test_a_norm_measured_before_is_exact_at_other_weights(least):
    model = tiny()
    batch = padded([5, 7, 3])
    per_example_gradient_norms(model, batch)
    for layer in model.modules():
        if "Norm" in type(layer).__name__:
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            layer.weight.data[0] = least
    assert_exact(model, batch)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_the_fused_head_of_trl_keeps_working():
    utils = pytest.importorskip("trl.trainer.utils")
    if not hasattr(utils, "add_fused_lm_head"):
        pytest.skip("TRL before 1.10 has no fused head")
    plain = tiny("gemma2")
    model = copy.deepcopy(plain)
    utils.add_fused_lm_head(model)
    assert_exact(model, padded(), reference=plain)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    torch.testing.assert_close(
        per_example_gradient_norms(adapted, padded()), looped_gradient_norms(adapted, padded()), rtol=1e-4, atol=0
    )


def test_autocast_to_bf16_stays_close():
    plain = tiny("llama-tied")
    model = copy.deepcopy(plain)  # wrapped as accelerate does
    model.forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(model.forward))
    expected, losses = one_at_a_time(plain, padded())
    for found, expect in zip(gradient_norms_and_losses(model, padded()), (expected, losses), strict=True):
        assert found.dtype == torch.float32 and not torch.equal(found, expect)
        torch.testing.assert_close(found, expect, rtol=3e-2, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(per_example_gradient_norms(plain, padded()), expected, rtol=3e-2, atol=0)


def test_a_row_without_targets_is_nan_and_the_others_are_not_touched():
    model, batch = tiny(), padded()
    expected = per_example_gradient_norms(model, batch)
    batch["labels"][1] = -100
    for found in (per_example_gradient_norms(model, batch), looped_gradient_norms(model, batch)):
        assert found.isnan().tolist() == [False, True, False, False]
        torch.testing.assert_close(found[[0, 2, 3]], expected[[0, 2, 3]], rtol=1e-5, atol=0)
    batch["labels"][:] = -100
    assert all(found.isnan().all() for found in gradient_norms_and_losses(model, batch))


def test_a_model_without_trainable_parameters_is_refused():
    with pytest.raises(RewardError, match="no trainable parameter"):
        per_example_gradient_norms(tiny().requires_grad_(False), padded())


def test_a_measurement_leaves_no_trace_on_training():
    """Two AdamW steps of a model with dropout: the same weights bit for bit with and without a measurement."""

    def trained(measure):
        torch.manual_seed(1)
        model = hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED, attention_dropout=0.5)).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for step in range(2):
            model(**padded(seed=step)).loss.backward()
            if measure:  # between backward and step: the gradients are alive
                with torch.no_grad():
                    measure(model, padded(seed=9))
            optimizer.step()
            optimizer.zero_grad()
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        return model.state_dict()

    plain = trained(None)
    for measure in (per_example_gradient_norms, looped_gradient_norms):
        measured = trained(measure)
        assert all(torch.equal(plain[name], measured[name]) for name in plain)


def test_hooks_and_modes_are_restored_when_the_model_fails():
    model = tiny()
    model.model.layers[1].mlp.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        per_example_gradient_norms(model, padded())
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()) == 1


def test_a_model_that_is_not_causal_is_refused():
    model = hf.LlamaForSequenceClassification(hf.LlamaConfig(**GROUPED, num_labels=2))
    with pytest.raises(RewardError, match="logits of shape"):
        per_example_gradient_norms(model, padded())
