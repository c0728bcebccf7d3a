"""What a reward that learns from its own measurements remembers of them; it goes into the checkpoints.

S measurements, K datasets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hbo.arrays import Floats


@dataclass
class Past:
    """Measurements in order, the first of them on the untuned model.

    Attributes:
        now_K: Rows that training has taken of each dataset when the next measurement is made.
        drawn: The same at each measurement.
        values: What each measurement has found.
    """

    now_K: list[int]
    drawn: list[list[int]] = field(default_factory=list)
    values: list[list[float]] = field(default_factory=list)

    def note(self, value_K: Floats) -> tuple[Floats, Floats]:
        """Remembers a measurement; rows drawn and values of all until now, each (S, K)."""
        self.drawn.append(list(self.now_K))
        self.values.append(value_K.tolist())
        return np.array(self.drawn, dtype=np.float64), np.array(self.values, dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON values; what couldn't be measured is null."""
        values = [[value if np.isfinite(value) else None for value in row] for row in self.values]
        return {"drawn": self.drawn, "values": values}

    def load(self, saved: dict[str, Any]) -> None:
        """Undo of `to_json`."""
        self.drawn = [list(row) for row in saved["drawn"]]
        self.values = [[np.nan if value is None else value for value in row] for row in saved["values"]]
