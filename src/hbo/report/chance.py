"""Whether two counts of right answers differ by more than chance."""

from __future__ import annotations

from math import exp, lgamma

_LEVEL = 0.05
_TIE = 1e-9


def fisher_p(first: int, second: int, rows: int) -> float:
    """Fisher's exact test, two-sided: `first` and `second` of as many `rows` were right.

    The same rows are asked twice, but which of them were right isn't kept; taken as unpaired, a difference is rather
    called chance than not.

    Example:
        >>> round(fisher_p(6, 3, 22), 2), fisher_p(5, 5, 22)
        (0.46, 1.0)
    """
    both = first + second
    least, most = max(0, both - rows), min(rows, both)
    odds = [_log_choose(rows, k) + _log_choose(rows, both - k) for k in range(least, most + 1)]
    top = max(odds)
    weights = [exp(each - top) for each in odds]
    seen = weights[first - least]
    return min(1.0, sum(weight for weight in weights if weight <= seen * (1 + _TIE)) / sum(weights))


def is_chance(first: int, second: int, rows: int) -> bool:
    """Whether chance alone makes so large a difference in more than one case of twenty."""
    return fisher_p(first, second, rows) > _LEVEL


def _log_choose(rows: int, chosen: int) -> float:
    return lgamma(rows + 1) - lgamma(chosen + 1) - lgamma(rows - chosen + 1)
