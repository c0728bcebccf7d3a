"""Every causal language model of transformers, tiny and random, built from its configuration's class alone.

The default configuration is shrunk field by field (`tiny_sizes`), and of its layers one of each kind is kept. The
reference is plain autograd, one row without padding at a time, and uses nothing of hbo.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
from typing import Any

import torch
import transformers
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from support.tiny_adapters import adapted, fused_experts
from support.tiny_sizes import ENCODERS, HEAD, LAYERS, OVERRIDES, SIZES, SKIPPED, TOKENS, VOCABULARY

LOOKS = 1e-5
"""A model whose loss moves by more than this, relatively, when padding follows, looks at its padding."""


def architectures() -> list[str]:
    """The model types that are built: each class of model once, under the name of its first model type."""
    return [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if not why_not(name)]


def why_not(name: str) -> str:
    """Why an architecture isn't built, or nothing."""
    if name in SKIPPED:
        return SKIPPED[name]
    model = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[name]
    same = [other for other, its in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items() if its == model]
    home = getattr(transformers, model).__module__.split(".")[-2].replace("_", "-")
    first = min(same, key=lambda other: (not other.endswith("_text"), other.replace("_", "-") != home))
    return "" if name == first else f"its class is that of {first}"


def tiny_config(name: str, **more: Any) -> Any:
    """The shrunk configuration."""
    kind = CONFIG_MAPPING[name]
    own = OVERRIDES.get(name, {})
    return kind(**{**shrunk(kind, own), **own, **more})


def shrunk(kind: Any, own: dict[str, Any]) -> dict[str, Any]:
    """The fields of a configuration's class that are smaller in a tiny model, or name a token."""
    names = {field.name for field in dataclasses.fields(kind)}
    default = kind(**{name: value for name, value in own.items() if not isinstance(value, list | int)})
    small = {name: TOKENS[name] for name in names & TOKENS.keys()}
    for name in names & SIZES.keys():
        value = _value(default, name)
        if isinstance(value, int) and value > SIZES[name]:
            small[name] = SIZES[name]
    if "head_dim" in names and _value(default, "head_dim") is None:
        small["head_dim"] = HEAD
    if "num_key_value_heads" in names:
        heads, pairs = _value(default, "num_attention_heads"), _value(default, "num_key_value_heads")
        small["num_key_value_heads"] = pairs if pairs in (None, 1) else 4 if pairs == heads else 2
    if "is_decoder" in names:
        small |= ENCODERS
    parts = {name: getattr(default, name) for name in kind.sub_configs_defaults}
    small |= {name: shrunk(type(part), {}) for name, part in parts.items() if isinstance(part, PreTrainedConfig)}
    return small | one_layer_of_each_kind(default, names)


def _value(config: Any, name: str) -> Any:
    # not getattr: it refuses a field that differs between layers
    return vars(config).get(config.attribute_map.get(name, name))


def one_layer_of_each_kind(default: Any, names: set[str]) -> dict[str, Any]:
    """The lists that say what each layer is, cut to the first layer of each kind, and how many these are."""
    count = next((name for name in LAYERS if name in names), None)
    if count is None:
        return {}
    layers = _value(default, count)
    values = {name: _value(default, name) for name in names}
    lists = {name: value for name, value in values.items() if isinstance(value, list) and len(value) == layers}
    if layers < 3 or not lists:
        return {}
    kinds: dict[tuple[str, ...], int] = {}
    for layer in range(layers):
        kinds.setdefault(tuple(str(value[layer]) for value in lists.values()), layer)
    chosen = sorted([*kinds.values(), 1][: max(2, len(kinds))])
    kept = {name: [value[layer] for layer in chosen] for name, value in lists.items()}
    return kept | {name: len(chosen) for name in names & set(LAYERS)}


def build(name: str, variant: str = "full", seed: int = 0) -> nn.Module:
    """A tiny random model in training mode, no parameter of which is exactly 0 or 1 by its making.

    Args:
        name: One of `architectures`.
        variant: "full" (embeddings tied or not as the configuration has it), "tied", "untied", or what
            `tiny_adapters.adapted` knows, "lora" for one.
        seed: Of the weights.
    """
    torch.manual_seed(seed)
    more = {"tied": {"tie_word_embeddings": True}, "untied": {"tie_word_embeddings": False}}.get(variant, {})
    model: nn.Module = AutoModelForCausalLM.from_config(tiny_config(name, **more))
    if variant not in ("full", "tied", "untied"):
        model = adapted(model, variant)
    perturb(model, seed)
    return model.train()


def variants(name: str) -> list[str]:
    """The variants of an architecture: fully trained, tied and untied where it can be both, and with LoRA."""
    model = build(name)
    full = ["full"]
    with contextlib.suppress(Exception):  # a configuration that refuses one of the two is measured as it is
        if not _tied(build(name, "untied")) and _tied(build(name, "tied")):
            full = ["untied", "tied"]
    if not fused_experts(model):
        return [*full, "lora"]
    # PEFT's "all-linear" adapts the experts too of those that it knows
    knows = any("expert" in name and "lora_" in name for name, _ in build(name, "lora").named_parameters())
    return [*full, "lora", "lora-attention" if knows else "lora-experts"]


def _tied(model: Any) -> bool:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and head.weight is embedding.weight


def perturb(model: nn.Module, seed: int = 0) -> None:
    """Moves every parameter a little: norms of exactly 1 and biases of exactly 0 would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise.to(parameter) * 0.3 / max(1, parameter.shape[-1] if parameter.ndim else 1) ** 0.5)


def batch_for(model: nn.Module, lengths: tuple[int, ...] = (20, 3, 11, 7), seed: int = 0) -> dict[str, Tensor]:
    """Rows of different lengths, padded on the right; the first third of each is no target."""
    generator = torch.Generator().manual_seed(seed)
    shape = len(lengths), max(lengths)
    batch = {"input_ids": torch.full(shape, 3), "attention_mask": torch.zeros(shape, dtype=torch.long)}
    batch["labels"] = torch.full(shape, -100)
    for r, n in enumerate(lengths):
        ids = torch.randint(0, VOCABULARY, (n,), generator=generator)
        ids[n // 2] = 3  # the padding token, met in earnest: torch gives its embedding no gradient
        batch["input_ids"][r, :n], batch["attention_mask"][r, :n] = ids, 1
        batch["labels"][r, :n] = torch.where(torch.arange(n) < n // 3, -100, ids)
    return batch


@dataclasses.dataclass(frozen=True)
class Reference:
    """What autograd says of each row alone."""

    norm_B: Tensor
    loss_B: Tensor
    own_loss_gap: float
    """How far the model's own loss of a row is from this one, relatively: 1 for instance if it doesn't shift labels."""
    padding_gap: float
    """How far this loss is from the one that the row has in the padded batch: more than rounding if the model looks at
    its padding."""
    padded_norm_B: Tensor
    """As `norm_B`, but of each row as it is in the batch; the same unless the model looks at its padding."""

    def error_of(self, norm_B: Tensor) -> float:
        """The largest relative error of norms; where the model looks at its padding, either reference will do."""
        gaps = [(norm_B / of_B - 1).abs().max() for of_B in (self.norm_B, self.padded_norm_B)]
        return float(gaps[0] if gaps[0] < gaps[1] or self.padding_gap < LOOKS else gaps[1])


def reference(model: nn.Module, batch: dict[str, Tensor]) -> Reference:
    """Each row's gradient norm and loss, measured without its padding, in evaluation mode, on a copy of the model."""
    model = copy.deepcopy(model).eval()
    rows = [{name: tensor[r : r + 1] for name, tensor in batch.items()} for r in range(len(batch["labels"]))]
    alone = [{name: tensor[:, row["attention_mask"][0].bool()] for name, tensor in row.items()} for row in rows]
    norm_B, loss_B = _norms_and_losses(model, alone)
    own_B = torch.tensor([_own_loss(model, row) for row in alone])
    padded_norm_B, padded_loss_B = _norms_and_losses(model, rows)
    own, padding = (float((other_B / loss_B - 1).abs().max()) for other_B in (own_B, padded_loss_B))
    return Reference(norm_B, loss_B, own, padding, padded_norm_B)


def _norms_and_losses(model: nn.Module, rows: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    norms, losses = [], []
    for row in rows:
        model.zero_grad(set_to_none=True)
        inputs = {name: tensor for name, tensor in row.items() if name != "labels"}
        loss = row_loss(model(**inputs, use_cache=False).logits[0], row["labels"][0])
        loss.backward()
        grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        norms.append(torch.stack([grad.double().square().sum() for grad in grads]).sum().sqrt())
        losses.append(loss.detach())
    return torch.stack(norms).float(), torch.stack(losses)


def row_loss(logits_TV: Tensor, labels_T: Tensor) -> Tensor:
    """The mean loss of a row's targets; logits of virtual tokens before the first are left out."""
    return nn.functional.cross_entropy(logits_TV[-len(labels_T) :][:-1].float(), labels_T[1:])


def reference_norms(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Each row's gradient norm (B,), by `reference`."""
    return reference(model, batch).norm_B


def _own_loss(model: nn.Module, row: dict[str, Tensor]) -> float:
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    if "labels" not in inspect.signature(inner.forward).parameters:
        return float("nan")
    with torch.no_grad():
        return float(model(**row, use_cache=False).loss)
