"""How a trainer's rows can be measured, found out from the trainer itself.

batched     rows hold `input_ids` and `labels`, and a row's loss is the mean over its target tokens: many rows in
            one pass
alone       anything else: each row collated by the trainer's collator, its loss by the trainer's `compute_loss`
not at all  a row has no loss before training makes something of it
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, Trainer

from hbo.compat import inner_model, is_peft
from hbo.data.tokens import IGNORED, predicts_target
from hbo.rewards.examples import PACKED, PackedExamples
from hbo.rewards.norms.left_as_found import left_as_found
from hbo.scoring.batches import reader
from hbo.scoring.losses import batch_losses
from hbo.training.own_loss import TrainerLoss, full_name

_TOKENS = {"input_ids", "labels"}
_BESIDE = {"attention_mask", "position_ids", PACKED}  # follow from the tokens
_STANDARD = {"transformers.trainer.Trainer", "trl.trainer.sft_trainer.SFTTrainer"}
"""Whose `compute_loss` is known to be a mean over target tokens, if the model is a language model."""
_TRIED = 4  # datasets of which a row is looked at
_NEAR, _NEAR_IN_HALF = 1e-3, 1e-2  # how far two ways of computing one loss may lie apart, of the loss


@dataclass(frozen=True)
class Way:
    """How a trainer's rows are measured.

    Attributes:
        alone: Why each row is measured alone, after "it is measured one row at a time, because"; None: in batches.
        is_token_mean: Whether the loss of a row is the mean over its target tokens, in nats.
        is_from_encoder: Whether these tokens stand at their labels' places, and not one before, as a decoder beside an
            encoder has them.
    """

    alone: str | None = None
    is_token_mean: bool = True
    is_from_encoder: bool = False


def way_of(trainer: Trainer, *, is_tried: bool = True) -> Way:
    """How the rows of `trainer` are measured.

    Args:
        trainer: With its rows.
        is_tried: Whether a few rows may be collated, and passed through the trainer's loss if need be; else a trainer
            whose rows have tokens and labels is taken to be one whose loss is the mean over them.
    """
    model = inner_model(trainer.model)
    is_tried = is_tried and not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
    speaks = isinstance(model, PreTrainedModel) and model.can_generate()
    reason = _not_by_tokens(trainer, model)
    few = _few(trainer.train_dataset) if reason is None and is_tried else []
    objective = TrainerLoss(trainer) if few else None
    if objective is not None and not all(_collates_to_tokens(objective, row) for row in few):
        reason = "its data_collator makes other tokens or labels of a row than the row has"
    if _is_standard(trainer) and speaks:
        return Way(reason, is_from_encoder=model.config.is_encoder_decoder)
    # Trainers built on others override compute_loss and come to the same number: see whether this one does.
    if reason is None and (objective is None or _comes_to_token_mean(objective, few)):
        return Way()
    return Way("its loss isn't a mean over target tokens", is_token_mean=False)


def _is_standard(trainer: Trainer) -> bool:
    """Whether nobody has changed the loss of transformers' Trainer or of TRL's SFTTrainer."""
    if trainer.compute_loss_func is not None or "compute_loss" in vars(trainer):
        return False
    kind = next(kind for kind in type(trainer).__mro__ if "compute_loss" in vars(kind))
    return full_name(kind) in _STANDARD


def _not_by_tokens(trainer: Trainer, model: Any) -> str | None:
    """Why the columns `input_ids` and `labels` don't say all that the model is given; None if they do."""
    rows = trainer.train_dataset
    if not isinstance(rows, Dataset):
        return f"its rows are a {type(rows).__name__}"
    if missing := sorted(_TOKENS - set(rows.column_names)):
        return f"its rows have no column {missing[0]}"
    if is_peft(trainer.model) and trainer.model.active_peft_config.is_prompt_learning:
        return "prompt learning puts tokens of its own before each row"
    if isinstance(model, PreTrainedModel) and model.config.is_encoder_decoder:
        return "the model has an encoder beside its decoder"
    taken = set(inspect.signature(model.forward).parameters) & set(rows.column_names)
    if more := sorted(taken - _TOKENS - _BESIDE):
        return f"its model is given the column {more[0]} too"
    return None


def _few(rows: Dataset) -> list[int]:
    """The first row of each of the first datasets."""
    if not len(rows):
        return []
    names = np.array(rows.with_format(None)["hbo_dataset"][:]) if "hbo_dataset" in rows.column_names else np.zeros(1)
    found: list[int] = np.unique(names, return_index=True)[1][:_TRIED].tolist()
    return found


def _collates_to_tokens(objective: TrainerLoss, row: int) -> bool:
    """Whether the trainer's collator gives the row's own tokens and labels, padded or not."""
    trainer = objective.trainer
    if PACKED in trainer.train_dataset.column_names:  # whoever takes packed rows cuts them apart
        return True
    with left_as_found(trainer.model), objective.apart():
        batch = objective.batch(row)
    if not all(isinstance(batch.get(name), Tensor) for name in _TOKENS):
        return False
    own = trainer.train_dataset.select_columns(sorted(_TOKENS)).with_format("numpy")[row]
    found = {name: batch[name].flatten().cpu().numpy() for name in _TOKENS}
    targets = [labels[1:][labels[1:] != IGNORED] for labels in (own["labels"], found["labels"])]
    count = len(own["input_ids"])
    ends = found["input_ids"][:count], found["input_ids"][-count:]  # padded on the right or on the left
    return np.array_equal(*targets) and any(np.array_equal(own["input_ids"], ids) for ids in ends)


def _comes_to_token_mean(objective: TrainerLoss, few: list[int]) -> bool:
    """Whether the trainer's own loss of these rows is the mean over their target tokens."""
    trainer = objective.trainer
    is_single = all(parameter.dtype.itemsize >= 4 for parameter in trainer.model.parameters())
    near = _NEAR if is_single else _NEAR_IN_HALF
    for row in few:
        with left_as_found(trainer.model), objective.apart(), torch.no_grad():
            try:
                mean = _mean(trainer, row)
                own = float(objective.loss(trainer.model, objective.batch(row)))
            except Exception:  # whatever it is, it comes again, and is told, when rows are measured by that loss
                return False
        if np.isfinite(mean) and not abs(own - mean) <= near * max(1.0, abs(mean)):
            return False
    return True


def _mean(trainer: Trainer, row: int) -> float:
    """The mean loss over the targets of a row, those of a packed one given their own example alone; NaN without any."""
    rows: Any = trainer.train_dataset
    numbers = np.array([row])
    if PACKED in rows.column_names:
        rows = PackedExamples(rows)
        numbers = rows.of_rows(numbers)
    examples = reader(rows)(numbers)
    targets = np.array([int(predicts_target(labels).sum()) for _, labels in examples])
    losses = batch_losses(trainer.model, examples, pad_token_id=0)
    return float((losses * targets).sum() / targets.sum()) if targets.any() else np.nan
