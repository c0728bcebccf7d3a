"""Commands that come after a run, as they can be copied into a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

from hbo.folder.paths import CONFIG

_COMPARED = ("hbo", "proportional", "uniform")
_SEEDS = 3


def comparison_of(folder: Path, method: str) -> str:
    """What tells whether balancing helped: the run's configuration under its method and without balancing.

    Example:
        >>> comparison_of(Path("runs/a"), "hbo")
        'hbo compare runs/a/config.yaml --methods hbo,proportional,uniform --seeds 0,1,2 --output runs/a-compare'
    """
    methods = ",".join(dict.fromkeys([method, *_COMPARED]))
    seeds = ",".join(map(str, range(_SEEDS)))
    grid = folder.with_name(f"{folder.name}-compare")
    words = ["hbo", "compare", str(folder / CONFIG), "--methods", methods, "--seeds", seeds, "--output", str(grid)]
    return shlex.join(words)


def compared_runs(method: str) -> int:
    """How many runs `comparison_of` makes."""
    return len({method, *_COMPARED}) * _SEEDS
