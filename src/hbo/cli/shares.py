"""Shares of datasets in a line of a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from hbo.text import one_line

_NAMED = 6  # datasets whose shares fit a line
_NAME = 24  # characters of a name


def shares_told(shares: Mapping[str, float]) -> str:
    """Shares of datasets on one line; of many the largest only.

    Example:
        >>> shares_told({"chat": 0.9996, "math": 0.0004})
        'chat 100.0%, math 0.04%'
    """
    largest = sorted(shares, key=lambda name: -shares[name])[:_NAMED]
    named = [name for name in shares if name in largest]
    told = [f"{_short(name)} {percent(shares[name])}" for name in named]
    if others := len(shares) - len(named):
        told.append(f"{others} others {percent(sum(shares.values()) - sum(shares[name] for name in named))}")
    return ", ".join(told)


def percent(share: float) -> str:
    """A share in percent, with digits enough to tell a small one from none."""
    return f"{share:.1%}" if share >= 0.001 or not share else f"{100 * share:.1g}%"


def _short(name: str) -> str:
    line = one_line(name)
    return line if len(line) <= _NAME else f"{line[: _NAME - 1]}…"
