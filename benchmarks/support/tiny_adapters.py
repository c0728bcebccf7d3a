"""Ways of training a tiny model other than all of it: LoRA, its kin, and what else PEFT has."""

from __future__ import annotations

from typing import Any

from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn

ALL = "all-linear"
KIN: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": ALL},
    "lora-experts": {"target_modules": ALL},
    "lora-attention": {},
    "dora": {"target_modules": ALL, "use_dora": True},
    "rslora": {"target_modules": ALL, "use_rslora": True},
    "lora-biases": {"target_modules": ALL, "bias": "lora_only"},
    "lora-embeddings": {"target_modules": ["q_proj", "v_proj", "down_proj", "embed_tokens"]},
    "lora-head": {"target_modules": ["q_proj", "v_proj", "down_proj", "lm_head"]},
    "lora-modules-to-save": {"target_modules": ALL, "modules_to_save": ["lm_head"]},
    "lora-trainable-tokens": {"target_modules": ALL, "trainable_token_indices": [5, 6, 7]},
}
"""Variants of LoRA, and what each asks of PEFT."""

UNTOUCHED = {
    **{name: ["out_proj"] for name in ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")},
    **{name: ["router"] for name in ("llama4_text", "phimoe")},
    "deepseek_v4": ["o_a_proj"],
}
"""What PEFT can't adapt or refuses to, by the type of model: its "all-linear" has to do without."""

CHECKPOINTED = {"checkpointed": False, "checkpointed-reentrant": True}
OTHERS = [name for name in KIN if name not in ("lora", "lora-attention", "lora-experts")]
OF_LLAMA = [*OTHERS, "prompt-tuning", "ia3", *CHECKPOINTED, *(f"lora-{name}" for name in CHECKPOINTED)]
"""What is tried on one architecture only."""


def adapted(model: Any, variant: str) -> Any:
    """The model prepared for a way of training.

    Args:
        model: A tiny model.
        variant: A name of `KIN` or `OF_LLAMA`.
    """
    way = variant.removeprefix("lora-") if variant.removeprefix("lora-") in CHECKPOINTED else ""
    if way:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": CHECKPOINTED[way]})
        if way == variant:
            return model
        model.enable_input_require_grads()
        variant = "lora"
    if variant == "prompt-tuning":
        return get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    if variant == "ia3":
        names = {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
        return get_peft_model(model, IA3Config(task_type="CAUSAL_LM", **names))
    experts = {"target_parameters": fused_experts(model)} if variant == "lora-experts" else {}
    if variant == "lora-attention":
        experts = {"target_modules": attention(model)}
    config = LoraConfig(r=4, exclude_modules=UNTOUCHED.get(model.config.model_type), **{**KIN[variant], **experts})
    return get_peft_model(model, config)


def attention(model: nn.Module) -> list[str]:
    """The last names of the linear layers that mix tokens, and of no other layers."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    inner = [name for name in linear if ("att" in name or "mixer" in name) and "expert" not in name]
    return sorted({name.split(".")[-1] for name in inner} - {name.split(".")[-1] for name in {*linear} - {*inner}})


def fused_experts(model: nn.Module) -> list[str]:
    """How LoRA calls the parameters that hold the weights of all experts of a layer: their last two names."""
    named = [name for name, parameter in model.named_parameters() if parameter.ndim == 3 and "expert" in name]
    return sorted({".".join(name.split(".")[-2:]) for name in named if not name.endswith("bias")})
