"""What becomes of each key of `train:`, and what some keys take that their own libraries don't say.

`RULES` is one table of all fields of `trl.SFTConfig`, those of transformers among them. SFTTrainer prepares rows by
some of its keys; here hbo does, so each of these is obeyed here, or refused by name. The page docs/train-keys.md is
this table: `python -m hbo.run.train_keys` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from accelerate.parallelism_config import ParallelismConfig
from peft import LoraConfig
from pydantic import Field
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_pt_utils import AcceleratorConfig
from trl import SFTConfig

from hbo.compat import loss_kinds
from hbo.config.section import written
from hbo.config.yaml_text import write_yaml
from hbo.errors import ConfigError
from hbo.run.field_types import kinds_of

_Tracker: Any = Literal[(*INTEGRATION_TO_CALLBACK, "all", "none")]
_AT_LEAST_ONE = Annotated[int, Field(ge=1)]
KINDS: dict[str, Any] = {
    "accelerator_config": AcceleratorConfig | dict | str | None,
    "parallelism_config": ParallelismConfig | None,
    "model_init_kwargs": dict[str, Any] | None,
    "dataset_kwargs": dict[str, Any] | None,
    "fsdp": bool | str | list[str] | None,
    "report_to": Union[_Tracker, list[_Tracker], None],  # noqa: UP007 - no operator joins what is made here
    "per_device_train_batch_size": _AT_LEAST_ONE,
    "per_device_eval_batch_size": _AT_LEAST_ONE,
    "gradient_accumulation_steps": _AT_LEAST_ONE,
    "num_train_epochs": Annotated[float, Field(gt=0)],
    "learning_rate": Annotated[float, Field(ge=0, allow_inf_nan=False)],
    "max_length": Annotated[int, Field(ge=2)] | None,  # a token, and one that is predicted from it
    "dataloader_num_workers": Annotated[int, Field(ge=0)],
    "packing_strategy": Literal["bfd", "bfd_split", "bfd-requeue", "wrapped"],
    **loss_kinds(SFTConfig),
}
"""What these fields take, where their own libraries say something else, or too little."""
_INITS = r"(?i)gaussian|eva|olora|pissa(_niter_\d+)?|corda|loftq|orthogonal|mica|lora_ga"
LORA_KINDS: dict[str, Any] = {
    "r": _AT_LEAST_ONE,
    "lora_alpha": int | float,
    "lora_dropout": Annotated[float, Field(ge=0, le=1)],
    "rank_pattern": dict[str, int] | None,
    "alpha_pattern": dict[str, float] | None,
    "init_lora_weights": kinds_of(LoraConfig)["init_lora_weights"]
    | Annotated[str, Field(pattern=f"^({_INITS})$", description="pissa_niter_4 and the like")],
}
"""What these fields of LoraConfig take, where peft says something else, or too little."""


@dataclass(frozen=True)
class KeyRule:
    """What becomes of some fields of SFTConfig."""

    does: Literal["hands on", "obeys", "says so", "refuses"]
    keys: tuple[str, ...]
    how: str
    """What that means, for the documentation and for whoever is refused."""
    only: tuple[Any, ...] | None = None
    """The values that are taken; None: all."""
    reaches_trainer: bool = True


def _on(how: str, keys: str) -> KeyRule:
    return KeyRule("hands on", tuple(keys.split()), how)


def _obeyed(how: str, keys: str) -> KeyRule:
    return KeyRule("obeys", tuple(keys.split()), how)


def _obeyed_here(how: str, keys: str, only: tuple[Any, ...] | None = None) -> KeyRule:
    return KeyRule("obeys", tuple(keys.split()), how, only, reaches_trainer=False)


def _said(how: str, keys: str) -> KeyRule:
    return KeyRule("says so", tuple(keys.split()), how)


def _refused(key: str, how: str, *only: Any) -> KeyRule:
    return KeyRule("refuses", (key,), how, only)


RULES = (
    _on(
        "optimizer and schedule",
        "num_train_epochs max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps optim optim_args "
        "optim_target_modules weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm neftune_noise_alpha",
    ),
    _on(
        "the loss that is trained on; rewards, scores and held-out losses stay plain negative log-likelihoods",
        "loss_type label_smoothing_factor average_tokens_across_devices router_aux_loss_coef",
    ),
    _on(
        "batches; `global_batch_size` sets the second; `dataloader_pin_memory` is on only with CUDA by default",
        "per_device_train_batch_size gradient_accumulation_steps auto_find_batch_size pad_to_multiple_of "
        "remove_unused_columns dataloader_drop_last dataloader_num_workers dataloader_pin_memory "
        "dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context",
    ),
    _on(
        "precision, speed and memory; by default, `use_cpu` is true without an accelerator, and `bf16` is false on "
        "a CPU that doesn't multiply in bf16",
        "bf16 fp16 tf32 use_cpu activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing "
        "gradient_checkpointing_kwargs activation_offloading use_cache use_liger_kernel liger_kernel_config "
        "torch_compile torch_compile_backend torch_compile_mode torch_empty_cache_steps full_determinism",
    ),
    _on(
        "several processes, as far as [each sees rows of its own](../examples/distributed/README.md), so "
        "`dispatch_batches` is refused",
        "accelerator_config parallelism_config ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers "
        "ddp_static_graph ddp_backend ddp_timeout fsdp fsdp_config deepspeed",
    ),
    _on(
        "the log; `disable_tqdm` is true by default, since hbo draws its own bars",
        "logging_strategy logging_steps logging_first_step logging_nan_inf_filter log_on_each_node log_level "
        "log_level_replica disable_tqdm report_to run_name project trackio_space_id trackio_bucket_id "
        "trackio_static_space_id include_num_input_tokens_seen debug skip_memory_metrics",
    ),
    _on(
        "evaluation during training, on each dataset's held-out rows; `eval_loss` is the mean over the datasets",
        "eval_strategy eval_steps eval_delay eval_on_start per_device_eval_batch_size load_best_model_at_end "
        "metric_for_best_model greater_is_better",
    ),
    _on(
        "checkpoints",
        "save_strategy save_steps save_total_limit save_only_model save_on_each_node ignore_data_skip "
        "restore_callback_states_from_checkpoint",
    ),
    _on(
        "[the Hub](configuration.md#train)",
        "push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision",
    ),
    _obeyed("the run's folder; one that differs from `output:` is refused", "output_dir"),
    _obeyed("seed of the trainer; by default that of `seed:`", "seed"),
    _obeyed("seed of every draw, instead of `seed:`; the held-out rows are still chosen by `seed:`", "data_seed"),
    _obeyed(
        "arguments of transformers' `from_pretrained` for the model; `revision` applies to the tokenizer too; by "
        "default `dtype` is fp32 and `use_safetensors` true",
        "model_init_kwargs",
    ),
    _obeyed("whether code of the model, its tokenizer and `difficulty.model` may run", "trust_remote_code"),
    _obeyed_here(
        "the chat template of every row, which is saved with the model: a `.jinja` file, or that of a tokenizer "
        "(folder or Hub name), whose end token is taken too unless `eos_token` is given; tokens in it that the model's "
        "own tokenizer lacks are refused",
        "chat_template_path",
    ),
    _obeyed_here(
        "the tokenizer's end and padding tokens, in rows, in training and in what is saved; they must be in its "
        "vocabulary",
        "eos_token pad_token",
    ),
    _obeyed("tokens of a row, at least 2; null: rows are never cut", "max_length"),
    _obeyed_here("whether a longer row keeps its start or its end, in training and held out", "truncation_mode"),
    _obeyed(
        "rows are packed [within their group](method.md#packing); `wrapped` is refused", "packing packing_strategy"
    ),
    _obeyed("batches without padding; rows are cut to `max_length` all the same", "padding_free"),
    _obeyed_here("rows are drawn at random, so they are shuffled either way", "shuffle_dataset"),
    _obeyed_here(
        "hbo always trains on answers only; with this key, a dataset of plain text is refused, since it has none",
        "assistant_only_loss",
    ),
    _obeyed_here(
        "hbo always trains on answers only; for a loss on all tokens, give rows as plain text (format text)",
        "completion_only_loss",
        (None, True),
    ),
    _obeyed_here("at SIGTERM, hbo always saves a checkpoint and stops the run", "enable_jit_checkpoint"),
    _obeyed_here("hbo train trains; held-out rows are evaluated before and after it", "do_train do_eval"),
    _refused("do_predict", "there is no third set of rows; use hbo eval", False),
    _refused("resume_from_checkpoint", "a run goes on from its last whole checkpoint with hbo train … --resume", None),
    _refused(
        "dataset_text_field",
        "write columns: {text: body} in the entry of a dataset whose texts stand in a column body",
        "text",
    ),
    _refused("dataset_kwargs", "hbo prepares the rows itself", None, {}, {"skip_prepare_dataset": False}),
    _refused("eval_packing", "held-out rows are never packed, since each has a loss of its own", None, False),
    _refused("train_sampling_strategy", "hbo draws the rows, and sorts those of a step by length anyway", "random"),
    _refused("dataloader_in_order", "hbo records the loss of each row by its place in the order of draws", True),
    _refused("label_names", "rows have one column of labels", None, ["labels"]),
    _said("it is for a train_sampling_strategy that hbo doesn't take", "length_column_name"),
    _said("rows are tokenised in one process, by all threads of the tokenizer", "dataset_num_proc"),
    _said("held-out losses are measured in the precision of training", "bf16_full_eval fp16_full_eval"),
    _said(
        "there are no metrics but the loss",
        "include_for_metrics batch_eval_metrics eval_do_concat_batches eval_use_gather_object eval_accumulation_steps "
        "prediction_loss_only",
    ),
    _said("the launcher says which process this is", "local_rank"),
)
"""All fields, each in one rule."""

FORMER = {
    "warmup_ratio": "write warmup_steps, which below 1 is a share of the steps",
    "evaluation_strategy": "it is called eval_strategy now",
    "max_seq_length": "it is called max_length now",
    "group_by_length": "leave it out: rows of a step are sorted by length anyway",
    "no_cuda": "it is called use_cpu now",
    "per_gpu_train_batch_size": "it is called per_device_train_batch_size now",
    "per_gpu_eval_batch_size": "it is called per_device_eval_batch_size now",
    "overwrite_output_dir": "leave it out, and give hbo train --overwrite",
    "logging_dir": "leave it out: trackers write into the run's folder, or where their own variables say",
    "save_safetensors": "leave it out: weights are always saved as safetensors",
    "push_to_hub_token": "it is called hub_token now",
    "push_to_hub_model_id": "it is called hub_model_id now",
    "dataset_batch_size": "leave it out: hbo tokenises the rows itself",
    "use_liger": "it is called use_liger_kernel now",
    "torch_dtype": "write model_init_kwargs: {dtype: …}",
    "attn_implementation": "write model_init_kwargs: {attn_implementation: …}",
    "load_in_4bit": "write model_init_kwargs: {quantization_config: {load_in_4bit: true}}",
    "load_in_8bit": "write model_init_kwargs: {quantization_config: {load_in_8bit: true}}",
}
"""Keys that people know from other releases and other places → what to write."""


_RULE_OF = {key: rule for rule in RULES for key in rule.keys}


def reaches_trainer(key: str) -> bool:
    """Whether the trainer is given the key too; one that a newer release has brought is handed on."""
    return key not in _RULE_OF or _RULE_OF[key].reaches_trainer


def check_keys(train: Mapping[str, Any]) -> None:
    """Refuses keys, whose values are typed already, that hbo neither obeys nor can leave to the trainer.

    Raises:
        ConfigError: There is such a key; why, and what to do.
    """
    for key, value in train.items():
        rule = _RULE_OF.get(key)
        if rule is not None and rule.only is not None and value not in rule.only:
            raise ConfigError(
                f"train.{key} is {written(value)}, which `hbo train` doesn't support; leave it out: {rule.how}"
            )


def without_effect(train: Mapping[str, Any], fields: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each key that is set to something else than its field's default and changes nothing."""
    for key, value in train.items():
        rule = _RULE_OF.get(key)
        if rule is not None and rule.does == "says so" and value not in (fields[key].default, []):
            yield f"train.{key} has no effect: {rule.how}"


def as_markdown() -> str:
    """The table of the documentation."""
    lines = ["| keys | hbo | what that means |", "|---|---|---|"]
    for rule in RULES:
        taken = [write_yaml(value, default_flow_style=True).removesuffix("...\n").strip() for value in rule.only or ()]
        only = f"; taken: {', '.join(f'`{value}`' for value in taken)}" if taken else ""
        lines.append(f"| {', '.join(f'`{key}`' for key in rule.keys)} | {rule.does} | {rule.how}{only} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
