"""Tiny random models, padded batches, and the gradient norms that autograd gives for one unpadded example at a time."""

from __future__ import annotations

import copy
import json
import warnings

import torch
import transformers as hf

from hbo.rewards.gradients import gradient_norms_and_losses, settle
from hbo.rewards.norms import Facts

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


def checkpoint_layers(model, options=None):
    """Has training compute the layers' activations twice; transformers 5.23 changed the name."""
    name = "activation_checkpointing_enable"
    getattr(model, name if hasattr(model, name) else "gradient_checkpointing_enable")(options)


def padded(lengths=(20, 3, 11, 7), left=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = len(lengths), max(lengths)
    batch = {"input_ids": torch.full(shape, 3), "attention_mask": torch.zeros(shape, dtype=torch.long)}
    batch["labels"] = torch.full(shape, -100)
    for r, n in enumerate(lengths):
        at = slice(shape[1] - n, shape[1]) if left else slice(0, n)
        ids = torch.randint(0, 97, (n,), generator=generator)
        ids[n // 2] = 3  # the padding token, met in earnest: torch gives its embedding no gradient
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
        loss = model(**row, use_cache=False).loss
        loss.backward()
        grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        norms.append(torch.stack([grad.double().square().sum() for grad in grads]).sum().sqrt().float())
        losses.append(loss.detach())
    return torch.stack(norms), torch.stack(losses)


def assert_exact(model, batch, reference=None, facts=None):
    """Both norms and losses are those of autograd, also with the facts of a checkpoint; returns these facts."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # falling back would warn
        facts = facts or settle(model, batch)
        stored = Facts.from_json(json.loads(json.dumps(facts.to_json())))
        found = [gradient_norms_and_losses(model, batch, facts=known) for known in (facts, stored)]
    assert facts.batched and stored.batched
    expected_norms, expected_losses = one_at_a_time(reference or model, batch)
    assert torch.equal(found[0][0], found[1][0])  # as a run that is resumed measures
    for norms, losses in found:
        torch.testing.assert_close(norms, expected_norms, rtol=1e-4, atol=0)
        torch.testing.assert_close(losses, expected_losses, rtol=1e-4, atol=0)
    return facts
