"""Gradient norms of a padded batch equal autograd's, one unpadded example at a time."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import transformers as hf
from accelerate.utils import convert_outputs_to_fp32
from peft import LoraConfig, get_peft_model
from torch import nn
from trl.trainer.utils import add_fused_lm_head

from hbo.errors import RewardError
from hbo.rewards import gradients
from hbo.rewards.gradients import gradient_norms_and_losses, looped_gradient_norms, per_example_gradient_norms

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2}
FAMILIES = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED)),
    "llama-tied": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED, tie_word_embeddings=True)),
    "llama-biases": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED, attention_bias=True, mlp_bias=True)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**GROUPED)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED, head_dim=8)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**GROUPED, sliding_window=6)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GROUPED, head_dim=8)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**GROUPED, head_dim=8)),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2,
        )
    ),
    "phi": lambda: hf.PhiForCausalLM(hf.PhiConfig(**SIZES, qk_layernorm=True)),
}  # fmt: skip


def tiny(family="llama", seed=0):
    torch.manual_seed(seed)
    model = FAMILIES[family]()
    with torch.no_grad():
        for parameter in model.parameters():  # norms of exactly 1 and biases of exactly 0 would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.3 / parameter.shape[-1] ** 0.5)
    return model.train()


def padded(lengths=(20, 3, 11, 7), left=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = len(lengths), max(lengths)
    batch = {"input_ids": torch.full(shape, 3), "attention_mask": torch.zeros(shape, dtype=torch.long)}
    batch["labels"] = torch.full(shape, -100)
    for r, n in enumerate(lengths):
        at = slice(shape[1] - n, shape[1]) if left else slice(0, n)
        ids = torch.randint(0, 97, (n,), generator=generator)
        ids[-1] = 3  # the padding token, met in earnest: torch gives its embedding no gradient
        batch["input_ids"][r, at], batch["attention_mask"][r, at] = ids, 1
        batch["labels"][r, at] = torch.where(torch.arange(n) < n // 3, -100, ids)
    return batch


def one_at_a_time(model, batch):
    """The model's own loss of each row without its padding, and autograd's gradient of it."""
    model, norms, losses = copy.deepcopy(model).eval(), [], []
    for r in range(len(batch["labels"])):
        real = batch["attention_mask"][r].bool()
        row = {name: tensor[r : r + 1, real] for name, tensor in batch.items()}
        if model.config.model_type == "gpt2":  # learned positions: padding on the left shifts them
            row["position_ids"] = real.nonzero()[None, :, 0]
        model.zero_grad()
        loss = model(**row).loss
        loss.backward()
        grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        norms.append(torch.stack([grad.double().square().sum() for grad in grads]).sum().sqrt().float())
        losses.append(loss.detach())
    return torch.stack(norms), torch.stack(losses)


def assert_exact(model, batch, reference=None):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # falling back would warn
        norms, losses = gradient_norms_and_losses(model, batch)
    expected_norms, expected_losses = one_at_a_time(reference or model, batch)
    torch.testing.assert_close(norms, expected_norms, rtol=1e-4, atol=0)
    torch.testing.assert_close(losses, expected_losses, rtol=1e-4, atol=0)


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_norms_equal_autograd_one_example_at_a_time(family, left):
    model, batch = tiny(family), padded(left=left)
    assert_exact(model, batch)
    torch.testing.assert_close(looped_gradient_norms(model, batch), one_at_a_time(model, batch)[0], rtol=1e-4, atol=0)


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
        model.activation_checkpointing_enable()
    assert_exact(model, padded())


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("family", ["llama-tied", "gpt2"])
def test_gradient_checkpointing_changes_nothing(family, use_reentrant):
    model = tiny(family)
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    assert_exact(model, padded())


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_the_fused_head_of_trl_keeps_working():
    plain = tiny("gemma2")
    model = copy.deepcopy(plain)
    add_fused_lm_head(model)
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


class Scaled(nn.Module):
    """A custom layer with a parameter of its own and a layer inside."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.factor = inner, nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.inner(x) * self.factor


def with_custom_layer(model):
    model.model.layers[0].mlp = Scaled(model.model.layers[0].mlp)


def with_shared_layer(model):
    model.model.layers[1].mlp = model.model.layers[0].mlp


def with_stray_use(model):
    up, mlp = model.model.layers[0].mlp.up_proj, model.model.layers[1].mlp
    mlp.register_forward_hook(lambda module, args, output: output + args[0] @ up.weight.T @ up.weight)


class Shift(nn.Module):
    """A layer of which autograd keeps nothing, so that its input may be overwritten."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(32))

    def forward(self, x):
        return x + self.shift


def with_shift(model, factor=None):
    model.model.norm = Shift()
    if factor is not None:
        model.model.norm.register_forward_hook(lambda module, args, output: args[0].mul_(factor) + output)


def with_overwritten_input(model):
    with_shift(model, factor=2)


def with_mixing_norm(model):
    layer = model.model.norm
    layer.forward = lambda x: layer.weight * x / x.detach().std()


@pytest.mark.parametrize("change", [with_shared_layer, with_shift])
def test_layers_used_twice_and_custom_layers_of_vectors_are_exact(change):
    model = tiny()
    change(model)
    assert_exact(model, padded())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (with_custom_layer, "model.layers.0.mlp.factor"),
        (with_stray_use, "model.layers.0.mlp.up_proj.weight"),
        (with_overwritten_input, "model.norm.shift"),
        (with_mixing_norm, "model.norm.weight"),
    ],
)
def test_what_no_rule_covers_is_measured_in_a_loop_with_one_warning(change, named):
    model, batch = tiny(), padded()
    change(model)
    with pytest.warns(UserWarning, match="one row at a time") as caught:
        found = [gradient_norms_and_losses(model, batch)[0] for _ in range(2)]
    assert len(caught) == 1 and named in str(caught[0].message)
    expected = looped_gradient_norms(model, batch)
    assert all(torch.equal(norms, expected) for norms in found)


def test_a_frozen_custom_parameter_needs_no_fallback():
    model = tiny()
    with_custom_layer(model)
    with pytest.warns(UserWarning, match="factor"):
        per_example_gradient_norms(model, padded())
    model.model.layers[0].mlp.factor.requires_grad_(False)
    assert_exact(model, padded())


def test_fused_experts_fall_back():
    torch.manual_seed(0)
    model = hf.MixtralForCausalLM(hf.MixtralConfig(**GROUPED, num_local_experts=4))
    with pytest.warns(UserWarning, match="experts|gate"):
        norms = per_example_gradient_norms(model, padded())
    torch.testing.assert_close(norms, one_at_a_time(model, padded())[0], rtol=1e-4, atol=0)


def test_a_model_that_is_not_causal_is_refused():
    model = hf.LlamaForSequenceClassification(hf.LlamaConfig(**GROUPED, num_labels=2))
    with pytest.raises(RewardError, match="logits of shape"):
        gradients.per_example_gradient_norms(model, padded())
