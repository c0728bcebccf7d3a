"""Whether what `train:` and `lora:` ask of a model is there to be had, found out on a model without weights."""

from __future__ import annotations

import warnings
from copy import deepcopy

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, PretrainedConfig
from trl import SFTConfig

from hbo.errors import ConfigError, first_line


def check_parts(spec: str, model: PretrainedConfig | None, args: SFTConfig, adapter: LoraConfig | None) -> None:
    """Refuses what the trainer would find missing only when rows are read and scored.

    A model whose configuration can't be read, or that can't be made without its weights, is left to be loaded.

    Args:
        spec: Where the model is.
        model: Its configuration; None: it can't be read.
        args: What the trainer is asked for.
        adapter: What is put on the model; None: nothing.

    Raises:
        ConfigError: A key asks for a part that the model doesn't have.
    """
    if model is None:
        return
    if args.router_aux_loss_coef and not hasattr(model.get_text_config(), "output_router_logits"):
        raise ConfigError(
            f"train.router_aux_loss_coef is {args.router_aux_loss_coef}, but {spec} has no experts whose loads could "
            "be balanced; leave it out"
        )
    if adapter is not None:
        _check_adapter(spec, model, adapter, trust_remote_code=bool(args.trust_remote_code))


def _check_adapter(spec: str, model: PretrainedConfig, adapter: LoraConfig, *, trust_remote_code: bool) -> None:
    tried = deepcopy(adapter)
    tried.init_lora_weights = False  # other ways look at the weights
    try:
        with torch.device("meta"):
            made = AutoModelForCausalLM.from_config(model, trust_remote_code=trust_remote_code)
    except Exception:  # a model that transformers doesn't know raises anything; loading it says what is wrong
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when it is done in earnest
            put_on = get_peft_model(made, tried)
    except ValueError as error:  # so peft says that the model lacks a part, or that it can't adapt it
        raise ConfigError(f"lora: {first_line(error)} (model {spec})") from None
    except Exception:  # what can't be done without weights
        return
    if isinstance(put_on.get_output_embeddings(), BaseTunerLayer):
        raise ConfigError(
            "lora.target_modules takes in the output layer, whose adapter TRL would not train; leave it out, or train "
            "the layer whole (lora.modules_to_save: [lm_head])"
        )
