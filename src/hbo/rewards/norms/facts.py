"""What is known of a model before its gradient norms are measured; found out once (`hbo.rewards.norms.settle`).

Nothing else is remembered about a model. It is plain JSON, stands in the checkpoint, and is the same in all processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


class Uncovered(Exception):  # noqa: N818 - a finding, caught by the caller, not an error
    """A model that can't be measured in one batched pass, and the parameter or layer that stands in the way."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"'{name}' {why}")
        self.name, self.why = name, why


@dataclass
class Facts:
    """How the gradient norms of a model are measured."""

    batched: bool = True
    """Whether a whole batch is measured in one pass, instead of one row at a time."""
    why: str = ""
    """If not batched: the reason."""
    rerun: dict[str, str] = field(default_factory=dict)
    """Full name of a parameter → the layer or block that is run again for each row to measure it."""
    layouts: dict[str, dict[str, str]] = field(default_factory=dict)
    """Name of such a block → how rows lie in each of its inputs and outputs (`hbo.rewards.norms.calls`)."""
    sliced_head: bool = True
    """Whether the head is run on a slice of the targets at a time, to save memory."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Facts:
        """The facts that `to_json` wrote."""
        return cls(**values)

    def sentence(self) -> str:
        """The verdict in one sentence."""
        if not self.batched:
            return f"gradient norms are measured one row at a time, which is slower: {self.why}"
        again = sorted({place or "the model" for place in self.rerun.values()})
        more = f"; {len(again)} blocks are run again for each row, such as {again[0]}" if again else ""
        return f"gradient norms are measured for a whole batch in one pass{more}"
