"""Warnings from a run's sizes alone: rows that will be seen too often, and groups that are too small."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from hbo.config import RunConfig
from hbo.core.prior import MANY_PASSES
from hbo.data.notes import Note

FEW = 16
"""Rows of a group below which its mean reward is mostly chance, however often it is measured."""
SMALL = 0.05
"""Share of the rows of a mixture below which it matters little how well a dataset is measured."""


def size_warnings(config: RunConfig, examples: Mapping[str, int], passes: Mapping[str, float]) -> Iterator[Note]:
    """What a user should know of these sizes; small parts of the mixture are only noted.

    Args:
        config: Run.
        examples: Dataset → rows to train on, of every dataset whose size is known.
        passes: Dataset → how often each of its rows is expected under the prior; may be empty.

    Example:
        >>> from hbo.config.file import parse
        >>> run = parse({"model": "m", "mixture": {"datasets": {"a": "a.jsonl"}}})
        >>> list(size_warnings(run, {"a": 1024}, {"a": 1.0}))
        []
    """
    for name, count in passes.items():
        if count > MANY_PASSES - 0.5:
            yield Note(
                f"dataset '{name}': each row is expected to be seen {count:.1f} times, and more than {MANY_PASSES - 1} "
                "is over-repetition; add rows, lower its share (weight, temperature), train fewer steps, or set "
                "mixture.max_passes",
                is_warning=True,
            )
    for name, size in examples.items():
        if why := list(_too_small(config, size)):
            told = f"dataset '{name}': {_groups(size, min(config.difficulty.groups, size))}, {'; '.join(why)}"
            yield Note(told, is_warning=size >= SMALL * sum(examples.values()))


def _too_small(config: RunConfig, size: int) -> Iterator[str]:
    groups, balance = min(config.difficulty.groups, size), config.balance
    if not balance.is_static and balance.rewards == "probe":
        probes = max(balance.probes, groups)
        if size < probes:
            yield (
                f"fewer than the {_range(probes, groups)} probes that an update takes of each, so every update "
                f"measures the same rows: add rows, or set balance.probes to {max(groups, size // 2)} or less"
            )
    if groups > 1 and size // groups < FEW:
        fewer = size // FEW
        remedy = f"set difficulty.groups to {fewer} or less" if fewer > 1 else "set difficulty.groups to 1"
        yield f"too few to tell difficulties apart (fewer than {FEW}): add rows, join datasets, or {remedy}"


def _groups(size: int, groups: int) -> str:
    if groups == 1:
        return f"its group has {size} row{'s' * (size > 1)}"
    return f"each of its groups g1 to g{groups} has {_range(size, groups)} rows"


def _range(size: int, parts: int) -> str:
    """The sizes of as many equal parts: `2` or `2 to 3`."""
    low, high = size // parts, math.ceil(size / parts)
    return str(low) if low == high else f"{low} to {high}"
