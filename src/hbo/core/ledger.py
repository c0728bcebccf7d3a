"""The ledger: an append-only list of what the probabilities were, from which position on, and why.

The stream reads it, a checkpoint stores it, the log shows it and the report draws it.
K datasets, L levels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbo.arrays import Floats, Ints
from hbo.errors import DataError

_ARRAYS = {
    "global": "p_K",
    "local": "q_KL",
    "global_reward": "global_reward_K",
    "local_reward": "local_reward_KL",
    "global_reward_se": "global_se_K",
    "local_reward_se": "local_se_KL",
}
"""Key of a record → field of an entry."""


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Attributes:
        step: Optimizer steps done when the probabilities were set; 0 for the prior.
        start: Position in the stream of draws from which they apply.
        p_K: Probabilities of the datasets.
        q_KL: Probabilities of the levels inside each dataset.
        global_reward_K, local_reward_KL: Rewards; None where the level is frozen, NaN where one couldn't be measured.
        global_se_K, local_se_KL: Their standard errors over the probes.
        drawn_KL: Rows consumed since the previous entry.
        seconds: Time taken by measuring and updating.
        probe_examples: Rows measured.
        changed: Settings that a resumed run changed, if this entry opens a new stage for that reason; else empty.
        per_row_KL: Mean examples per row; only on the first entry, and only if rows are packed. Probabilities are then
            shares of examples, while `start` and `drawn_KL` count rows.
    """

    step: int
    start: int
    p_K: Floats
    q_KL: Floats
    global_reward_K: Floats | None = None
    local_reward_KL: Floats | None = None
    global_se_K: Floats | None = None
    local_se_KL: Floats | None = None
    drawn_KL: Ints | None = None
    seconds: float = 0.0
    probe_examples: int = 0
    changed: tuple[str, ...] = ()
    per_row_KL: Floats | None = None

    def to_record(self, datasets: Sequence[str]) -> dict[str, Any]:
        """The entry as one JSON object of `balance.jsonl`."""
        drawn = np.zeros(self.q_KL.shape, dtype=np.int64) if self.drawn_KL is None else self.drawn_KL
        record: dict[str, Any] = {
            "step": self.step,
            "start": self.start,
            **{key: _named(datasets, getattr(self, field)) for key, field in _ARRAYS.items()},
            "drawn": _named(datasets, drawn),
            "seconds": round(self.seconds, 6),
            "probe_examples": self.probe_examples,
        }
        if self.changed:
            record["changed"] = list(self.changed)
        if self.per_row_KL is not None:
            record["examples_per_row"] = _named(datasets, self.per_row_KL)
        return record

    @classmethod
    def from_record(cls, record: dict[str, Any], datasets: Sequence[str]) -> Entry:
        """The entry of a record that `to_record` made; floats come back bit for bit.

        Raises:
            DataError: A key is missing or doesn't hold one value per dataset.
        """

        def array(value: Any) -> Any:
            return None if value is None else np.array([value[name] for name in datasets], dtype=np.float64)

        try:
            return cls(
                step=int(record["step"]),
                start=int(record["start"]),
                **{field: array(record[key]) for key, field in _ARRAYS.items()},
                drawn_KL=array(record["drawn"]).astype(np.int64),
                seconds=float(record["seconds"]),
                probe_examples=int(record["probe_examples"]),
                changed=tuple(record.get("changed", ())),
                per_row_KL=array(record.get("examples_per_row")),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"a record of the ledger can't be read ({error}); is it from another mixture?") from None


class Ledger:
    """Entries in order; each applies from its `start` to the next entry's `start`.

    Example:
        >>> ledger = Ledger(["a", "b"])
        >>> ledger.append(Entry(0, 0, np.array([0.5, 0.5]), np.ones((2, 1))))
        >>> ledger.at(1000).step
        0
    """

    def __init__(self, datasets: Sequence[str], entries: Iterable[Entry] = ()) -> None:
        self.datasets = tuple(datasets)
        self._entries: list[Entry] = []
        for entry in entries:
            self.append(entry)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __getitem__(self, index: int) -> Entry:
        return self._entries[index]

    def append(self, entry: Entry) -> None:
        """Adds an entry.

        Raises:
            DataError: It starts before the last one, which would rewrite draws already made.
        """
        if self._entries and (entry.start < self._entries[-1].start or entry.step < self._entries[-1].step):
            raise DataError(
                f"an entry at step {entry.step} would come before the last entry of the ledger, which "
                f"is of step {self._entries[-1].step}"
            )
        self._entries.append(entry)

    def at(self, position: int) -> Entry:
        """The entry that applies at `position`."""
        return self._entries[self.index_at(position)]

    def index_at(self, position: int) -> int:
        """The number of the entry that applies at `position`."""
        starts = [entry.start for entry in self._entries]
        return int(np.searchsorted(starts, position, side="right")) - 1

    def records(self) -> list[dict[str, Any]]:
        """All entries as JSON objects."""
        return [entry.to_record(self.datasets) for entry in self._entries]

    @classmethod
    def from_records(cls, records: Iterable[dict[str, Any]], datasets: Sequence[str]) -> Ledger:
        """The ledger of records that `records` made.

        Raises:
            DataError: A record doesn't fit the datasets.
        """
        return cls(datasets, (Entry.from_record(record, datasets) for record in records))

    def digest(self) -> str:
        """A hash of all steps, starts and probabilities: equal on two ranks only if they draw the same rows."""
        plain = [(e.step, e.start, e.p_K.tolist(), e.q_KL.tolist()) for e in self._entries]
        return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def _named(datasets: Sequence[str], values: NDArray[Any] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    # JSON has no NaN: a reward that couldn't be measured is null.
    return {name: _plain(values[k].tolist()) for k, name in enumerate(datasets)}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
