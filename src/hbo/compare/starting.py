"""Which cells may start beside each other: what the untuned model has to be asked is asked once per grid.

Scores and losses of the untuned model are in the cache once a run has written its configuration. Until then, no other
run starts that would have to measure; from then on, all that need the same start freely.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hbo.compare.grid import Cell
from hbo.compare.locks import take_lock
from hbo.folder.paths import CONFIG, stamp_of

# Keys that only say how training goes on from there. One that is missing here costs some waiting.
_TRAINING = (
    "adam", "gradient", "label_smoothing", "learning_rate", "logging", "lr_", "max_grad_norm", "max_steps", "neftune",
    "num_train_epochs", "optim", "save", "weight_decay", "warmup",
)  # fmt: skip
_DRAWS = {"temperature", "max_passes"}


class Starts:
    """What has been measured as far as this runner knows, and the lock of those that measure.

    Args:
        file: The lock, which all runners of the grid share.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._measured: set[str] = set()

    def begin(self, cell: Cell, *, resume: bool) -> Callable[[bool], None] | None:
        """What is to be called with "has ended" while the run goes on; None: the cell can't start yet.

        Args:
            cell: The run that wants to start.
            resume: It goes on from a checkpoint, and measures nothing.
        """
        needed = _measurements(cell)
        if resume or needed in self._measured:
            return lambda has_ended: None
        held = take_lock(self._file)
        if held is None:
            return None
        before = stamp_of(cell.folder / CONFIG)

        def look(has_ended: bool) -> None:
            nonlocal held
            has_started = stamp_of(cell.folder / CONFIG) not in (None, before)
            if held is not None and (has_started or has_ended):
                os.close(held)
                held = None
                self._measured |= {needed} if has_started else set()

        return look


def _measurements(cell: Cell) -> str:
    """All that what is measured of the untuned model may depend on."""
    config = cell.config.model_dump(mode="json", include={"model", "difficulty", "mixture"})
    mixture = {key: value for key, value in config["mixture"].items() if key not in _DRAWS}
    mixture["datasets"] = {name: entry | {"weight": None} for name, entry in mixture["datasets"].items()}
    train = {key: value for key, value in cell.config.train.items() if not key.startswith(_TRAINING)}
    return repr((config["model"], config["difficulty"], mixture, sorted(train.items(), key=str)))
