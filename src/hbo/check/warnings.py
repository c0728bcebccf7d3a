"""What a run's sizes foretell: steps of an epoch, passes under the prior, and groups too small for what is asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from hbo.config import RunConfig
from hbo.core.prior import MANY_PASSES

FEW = 16
"""Rows of a group below which its mean reward is mostly chance, however often it is measured."""


def size_warnings(
    config: RunConfig,
    examples: Mapping[str, int],
    rows: Mapping[str, int],
    share: Mapping[str, float],
    batch: int,
    passes: Mapping[str, float],
) -> Iterator[str]:
    """What a user should know of these sizes, a line each.

    Args:
        config: Run.
        examples: Dataset → rows to train on, of every dataset whose size is known.
        rows: The same, or packed rows, which are what steps are made of.
        share: Dataset → expected share of the rows drawn; may be empty.
        batch: Rows per step.
        passes: Dataset → how often each of its rows is expected under the prior; may be empty.

    Example:
        >>> from hbo.config.file import parse
        >>> run = parse({"model": "m", "mixture": {"datasets": {"a": "a.jsonl"}}})
        >>> list(size_warnings(run, {"a": 1024}, {"a": 1024}, {"a": 1.0}, 8, {"a": 1.0}))
        ['one epoch of the mixture is 128 steps; at its share of the draws, a dataset is gone through in: a 128 steps']
    """
    if rows and share.keys() == rows.keys():
        each = "; ".join(f"{name} {_steps(size / (batch * share[name]))}" for name, size in rows.items())
        whole = _steps(sum(rows.values()) / batch)
        yield f"one epoch of the mixture is {whole}; at its share of the draws, a dataset is gone through in: {each}"
    for name, size in examples.items():
        if why := list(_too_small(config, size)):
            yield f"dataset '{name}': {_groups(size, min(config.difficulty.groups, size))}, {'; '.join(why)}"
    for name, count in passes.items():
        if count > MANY_PASSES - 0.5:
            yield (
                f"dataset '{name}': each row of each group is expected {count:.1f} times under the prior, more than "
                f"{MANY_PASSES - 1} being over-repetition; add rows, lower its share (weight, temperature), train "
                "fewer steps, or set mixture.max_passes"
            )


def capped(passes: Mapping[str, float], rows: Mapping[str, int], most: int | None) -> dict[str, float]:
    """The passes expected where no row may have more than `most`; what one dataset leaves goes to the others.

    Example:
        >>> capped({"a": 1.0, "b": 5.0}, {"a": 100, "b": 20}, 4)
        {'a': 1.2, 'b': 4.0}
    """
    found = dict(passes)
    while most is not None and (over := [name for name, count in found.items() if count > most + 1e-9]):
        left = sum((found[name] - most) * rows[name] for name in over)
        found |= dict.fromkeys(over, float(most))
        takers = {name: count * rows[name] for name, count in found.items() if count < most}
        if not takers:
            break
        found |= {
            name: found[name] + left * drawn / sum(takers.values()) / rows[name] for name, drawn in takers.items()
        }
    return found


def _too_small(config: RunConfig, size: int) -> Iterator[str]:
    groups, balance = min(config.difficulty.groups, size), config.balance
    least = size // groups
    if not balance.is_static and balance.rewards == "probe":
        probes = max(balance.probes, groups)
        if size < probes:
            yield (
                f"fewer than the {_range(probes, groups)} probes that an update takes of each, so that all its rewards "
                f"come from the same rows: add rows, or set balance.probes to {max(groups, size // 2)} or less"
            )
        elif least < balance.probe_pool:
            yield f"fewer than balance.probe_pool = {balance.probe_pool}, so that every row is a probe at times"
    if groups > 1 and least < FEW:
        fewer = size // FEW
        remedy = f"set difficulty.groups to {fewer} or less" if fewer > 1 else "set difficulty.groups to 1"
        yield f"too few to tell difficulties apart (fewer than {FEW}): add rows, join datasets, or {remedy}"


def _groups(size: int, groups: int) -> str:
    if groups == 1:
        return f"its group has {size} row{'s' * (size > 1)}"
    return f"each of its groups 0 to {groups - 1} has {_range(size, groups)} rows"


def _range(size: int, parts: int) -> str:
    """The sizes of as many equal parts: `2` or `2 to 3`."""
    low, high = size // parts, math.ceil(size / parts)
    return str(low) if low == high else f"{low} to {high}"


def _steps(value: float) -> str:
    return f"{value:.0f} steps" if value >= 10 else f"{value:.1f} steps"
