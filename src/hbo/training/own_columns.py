"""Keeps `hbo_dataset` and `hbo_level` away from collators that can't take them, and with it from the model.

transformers drops columns that the model doesn't know; with `remove_unused_columns: false` it leaves that to the
collator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import Trainer

from hbo.rewards.norms.left_as_found import left_as_found


class WithoutOurColumns:
    """A collator that hands on rows without what only HBO reads, and which no tensor could hold.

    Args:
        collator: The trainer's.
        also: Columns that the trainer's collator must not see either.

    Example:
        >>> WithoutOurColumns(list)([{"text": "a", "hbo_dataset": "chat"}])
        [{'text': 'a'}]
    """

    def __init__(self, collator: Callable[[list[Any]], Any], also: Sequence[str] = ()) -> None:
        self.collator, self.also = collator, frozenset(also)

    def __call__(self, rows: Sequence[Any]) -> Any:
        """The batch that the trainer's collator makes."""
        return self.collator([self._without(row) for row in rows])

    def _without(self, row: Any) -> Any:
        if not isinstance(row, Mapping):
            return row
        return {name: value for name, value in row.items() if not _is_ours(name) and name not in self.also}


def hide_our_columns(trainer: Trainer) -> None:
    """Puts a `WithoutOurColumns` around a collator that fails on our columns, or hands them on to the model."""
    rows = trainer.train_dataset
    if trainer.args.remove_unused_columns or not len(rows):
        return
    few = [rows[number] for number in (0, len(rows) - 1)]
    if not all(isinstance(row, Mapping) and any(map(_is_ours, row)) for row in few):
        return
    with left_as_found(trainer.model):
        try:
            batch = trainer.data_collator(few)
            is_clean = not isinstance(batch, Mapping) or not any(map(_is_ours, batch))
        except Exception:  # whatever our columns didn't cause comes again without them
            is_clean = False
    if not is_clean:
        trainer.data_collator = WithoutOurColumns(trainer.data_collator)


def _is_ours(name: Any) -> bool:
    return isinstance(name, str) and name.startswith("hbo_")
