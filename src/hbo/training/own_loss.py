"""The loss of single rows by the trainer itself: its rows, its collator, its `compute_loss`.

DPOTrainer's compares two responses with what a reference model makes of them, a model that sees images is given more
than tokens, a user's own may be anything. All of that stays the trainer's.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict, deque
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, Trainer

from hbo.compat import inner_model
from hbo.errors import DataError

_SETS = ("train_dataset", "eval_dataset")  # rows, which may be a long list, are nobody's records
_CONTAINERS = (dict, defaultdict, OrderedDict, list, set, deque)  # themselves: what derives from them may do more


class TrainerLoss:
    """The loss of single rows by the trainer itself; an `hbo.rewards.objective.Objective`.

    Args:
        trainer: Any of transformers' family whose `compute_loss` takes what its collator makes of one row.

    Raises:
        DataError: No column of the rows is one that the trainer's model takes.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.name = type(trainer).__name__
        rows, collator = trainer.train_dataset, trainer.data_collator
        # As the trainer's own loader has them: without the columns that the model isn't given.
        if isinstance(rows, Dataset):
            try:
                rows = trainer._remove_unused_columns(rows, "training")
            except ValueError as error:  # no column is left
                raise DataError(
                    f"the training rows have no column that {type(trainer.model).__name__} takes (they have "
                    f"{', '.join(rows.column_names)}); give the trainer rows that it can train on, or set "
                    "remove_unused_columns: false if its collator makes the batch"
                ) from error
        else:
            collator = trainer._get_collator_with_removed_columns(collator, "training")
        self._rows, self._collate = rows, collator

    def batch(self, row: int) -> Any:
        """The row as the trainer would collate it, on the trainer's device."""
        return self.trainer._prepare_inputs(self._collate([self._rows[row]]))

    def loss(self, model: Any, batch: Any) -> Tensor:
        """The loss () of a batch, with what a trainer tells its loss of a step's other batches: there are none."""
        with self.trainer.compute_loss_context_manager():
            # A copy, since trainers add to what they are given, and take from it.
            loss: Tensor = self.trainer.compute_loss(model, copy.copy(batch), num_items_in_batch=self._items(batch))
        return loss

    def _items(self, batch: Any) -> Tensor | None:
        """The targets of a batch, where the trainer would divide by their number."""
        trainer = self.trainer
        is_asked = trainer.model_accepts_loss_kwargs or trainer.compute_loss_func is not None
        labels = batch["labels"] if is_asked and "labels" in batch else None
        if not isinstance(labels, Tensor):
            return None
        model = inner_model(trainer.model)
        # A causal language model predicts each token from those before it, and the first from nothing.
        is_causal = isinstance(model, PreTrainedModel) and model.can_generate() and not model.config.is_encoder_decoder
        count = (labels[..., 1:] if is_causal else labels).ne(-100).sum()
        # A loss that divides by the targets of all processes is multiplied by their number afterwards.
        return count * trainer.accelerator.num_processes if trainer.args.average_tokens_across_devices else count

    @contextmanager
    def apart(self) -> Iterator[None]:
        """The trainer as if it evaluated; afterwards its records and counts are as before."""
        trainer = self.trainer
        mode = trainer.model.training
        attributes, state = dict(vars(trainer)), dict(vars(trainer.state))
        records = {name: value for name, value in attributes.items() if name not in _SETS}
        kept = [*_contents(records), *((value, copy.copy(value)) for value in state.values() if _is_container(value))]
        trainer.model.training = False  # what a trainer counts tokens by; submodules have modes of their own
        try:
            yield
        finally:
            trainer.model.training = mode
            for holder, values in ((vars(trainer), attributes), (vars(trainer.state), state)):
                for name in holder.keys() - values.keys():
                    del holder[name]
                holder.update(values)
            for container, content in kept:
                _put_back(container, content)

    def replayed(self, row: int, policy: Any, reference: Any | None) -> float:
        """The loss of a row whose passes have been made: `policy` and `reference` give back their outputs.

        Args:
            row: Its number.
            policy: Stands for the model.
            reference: Stands for the reference model, whatever it is made of; None: the row holds its outcome.
        """
        kept = self.trainer.ref_model
        try:
            if reference is not None:
                self.trainer.ref_model = reference
            with torch.no_grad():
                return float(self.loss(policy, self.batch(row)))
        finally:
            self.trainer.ref_model = kept


def is_of_class(trainer: Trainer, names: Container[str]) -> bool:
    """Whether the trainer is of a class with such a name (`module.Class`), or of one that derives from it."""
    # By name, so that no trainer's module is imported for the asking.
    return any(full_name(kind) in names for kind in type(trainer).__mro__)


def full_name(kind: type) -> str:
    """A class's name with that of its module."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_container(value: Any) -> bool:
    return type(value) in _CONTAINERS


def _contents(container: Any) -> list[tuple[Any, Any]]:
    """Every container in `container` with a copy of what it holds now; nothing is looked for in other objects."""
    found: dict[int, tuple[Any, Any]] = {}
    waiting = [value for value in container.values() if _is_container(value)]
    while waiting:
        each = waiting.pop()
        if id(each) in found:
            continue
        found[id(each)] = each, copy.copy(each)
        inside = each.values() if isinstance(each, dict) else each
        waiting.extend(value for value in inside if _is_container(value))
    return list(found.values())


def _put_back(container: Any, content: Any) -> None:
    container.clear()
    container.extend(content) if isinstance(container, list | deque) else container.update(content)
