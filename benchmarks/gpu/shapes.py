"""Models of known shapes with random weights: what a measurement costs doesn't depend on what they have learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig, PreTrainedModel

from .machine import device

_LONGEST = 8192
_SPECIAL = {"pad_token_id": 1, "eos_token_id": 1, "bos_token_id": None, "use_cache": False}


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama-like model."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    is_tied: bool = True

    @property
    def config(self) -> dict[str, Any]:
        """As transformers names them."""
        return {
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.is_tied,
            "max_position_embeddings": _LONGEST,
            **_SPECIAL,
        }


SHAPES = {
    "8b": Shape(32, 4096, 14336, 32, 8, 128256, is_tied=False),  # Llama-3.1-8B
    "1b": Shape(16, 2048, 8192, 32, 8, 128256),  # Llama-3.2-1B
    "135m": Shape(30, 576, 1536, 9, 3, 49152),  # SmolLM2-135M
    "200m": Shape(12, 1024, 2816, 16, 4, 32000, is_tied=False),
    "20m": Shape(6, 384, 1024, 6, 2, 8192, is_tied=False),
    "toy": Shape(2, 32, 64, 4, 2, 320),
}


def llama(
    shape: str, dtype: torch.dtype = torch.float32, *, attention: str = "sdpa", dropout: float = 0.0, seed: int = 0
) -> PreTrainedModel:
    """A random model of this shape on the device in use."""
    config = LlamaConfig(**SHAPES[shape].config, attention_dropout=dropout)
    return _built(config, dtype, attention, seed)


def mixtral(shape: str, dtype: torch.dtype, *, experts: int = 8, seed: int = 0) -> PreTrainedModel:
    """The same with a mixture of experts in every layer, two of them for each token."""
    config = MixtralConfig(**SHAPES[shape].config, num_local_experts=experts, num_experts_per_tok=2)
    return _built(config, dtype, "sdpa", seed)


def with_lora(model: PreTrainedModel, rank: int = 16) -> PeftModel:
    """`model` with an adapter on every linear layer; its B is random too, since from zero no gradient reaches A."""
    adapted = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return adapted


def _built(config: Any, dtype: torch.dtype, attention: str, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    with torch.device(device()):  # 8B in fp32 on the host first would take minutes
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
        with torch.no_grad():
            for module in model.modules():
                if "Norm" in type(module).__name__ and isinstance(getattr(module, "weight", None), nn.Parameter):
                    module.weight.add_(torch.randn_like(module.weight) * 0.1)  # weights of exactly 1 hide mistakes
    return model
