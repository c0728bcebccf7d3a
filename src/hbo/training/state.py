"""What a checkpoint holds of HBO, and in which data a run that goes on from it must agree with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from datasets import Dataset
from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import ExportableState

from hbo.errors import ResumeError
from hbo.scoring.fingerprint import content_fingerprint
from hbo.training.trainer_rows import LENGTH

_COLUMNS = (
    *("input_ids", "labels", "hbo_dataset", "seq_lengths", "prompt_ids", "chosen_ids", "rejected_ids"),
    *("completion_ids", "label", "reference_ids", "chosen_input_ids", "rejected_input_ids"),  # KTO, TPO, CPO, ORPO
    *("text", "prompt", "completion", "chosen", "rejected", "messages", LENGTH),  # rows that a collator tokenises
)


class Snapshots(Protocol):
    """Whoever can say how balancing stands."""

    def snapshot(self) -> dict[str, Any] | None:
        """All that a checkpoint must hold, as JSON values; None before training begins."""


class HBOState(TrainerCallback, ExportableState):
    """Asks its source for a snapshot whenever transformers writes a checkpoint.

    transformers writes what `state()` returns into `trainer_state.json`, the last file of a checkpoint, and may rebuild
    this object from it; so it has no argument and does nothing else.
    """

    def __init__(self) -> None:
        self.snapshot: dict[str, Any] | None = None
        self.source: Snapshots | None = None

    def state(self) -> dict[str, Any]:
        """The balancer as it stands, as JSON values."""
        live = self.source.snapshot() if self.source else None
        return {"args": {}, "attributes": {"snapshot": self.snapshot if live is None else live}}

    def in_use(self, callbacks: Iterable[object]) -> HBOState:
        """The one among the trainer's callbacks: `restore_callback_states_from_checkpoint` puts a rebuilt one there."""
        return next((callback for callback in callbacks if isinstance(callback, HBOState)), self)


def saved_snapshot(state: TrainerState) -> dict[str, Any]:
    """The snapshot in the checkpoint that training goes on from.

    Raises:
        ResumeError: It has none.
    """
    saved = (state.stateful_callbacks or {}).get("HBOState")
    snapshot: dict[str, Any] | None = saved["attributes"]["snapshot"] if saved else None
    if snapshot is None:
        raise ResumeError(
            f"the checkpoint of step {state.global_step} was made without HBO; begin a new run, or resume from a "
            "checkpoint made with HBOCallback"
        )
    return snapshot


def fingerprints(*tables: Dataset) -> dict[str, str]:
    """Dataset → what stands for the content of its tokenised rows in these tables."""
    found: dict[str, str] = {}
    for rows in tables:
        if not len(rows):
            continue
        columns = [name for name in _COLUMNS if name in rows.column_names]
        name_N = np.array(rows.with_format(None)["hbo_dataset"][:])
        for name in np.unique(name_N).tolist():
            mine = rows.select(np.flatnonzero(name_N == name))
            found[name] = found.get(name, "") + content_fingerprint(mine, columns)
    return found


def check_data(then: Mapping[str, str], now: Mapping[str, str], paths: Mapping[str, str]) -> None:
    """Refuses data that has changed since the checkpoint.

    Args:
        then: Fingerprints in the checkpoint.
        now: Fingerprints of this run's data.
        paths: Dataset → where it was read from, for the message.

    Raises:
        ResumeError: A dataset has changed; it and its file are named.
    """
    for name in then:
        if name in now and then[name] != now[name]:
            where = f"{paths[name]}: " if name in paths else ""
            raise ResumeError(
                f"{where}dataset '{name}' has changed since the run began; put its former rows back to resume, or "
                "begin a new run"
            )
