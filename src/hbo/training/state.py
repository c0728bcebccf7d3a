"""The part of HBOCallback that checkpoints hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


class Source(Protocol):
    """Whoever can say how the balancer stands; None while there is no balancer."""

    def snapshot(self) -> dict[str, Any] | None:
        """All that a checkpoint must hold, as JSON values."""


class HBOState(TrainerCallback, ExportableState):
    """Asks its source for a snapshot whenever transformers writes a checkpoint.

    transformers writes what `state()` returns into `trainer_state.json`, the last file of a checkpoint, and may rebuild
    this object from it; so it has no argument and does nothing else.
    """

    def __init__(self) -> None:
        self.snapshot: dict[str, Any] | None = None
        self.source: Source | None = None

    def state(self) -> dict[str, Any]:
        """The balancer as it stands, as JSON values."""
        live = self.source.snapshot() if self.source else None
        return {"args": {}, "attributes": {"snapshot": self.snapshot if live is None else live}}

    def in_use(self, callbacks: Iterable[object]) -> HBOState:
        """The one among the trainer's callbacks: `restore_callback_states_from_checkpoint` puts a rebuilt one there."""
        return next((callback for callback in callbacks if isinstance(callback, HBOState)), self)
