"""What a comparison comes to, in one sentence: is the method that it is about better than the best of the others?"""

from __future__ import annotations

from hbo.compare.statistics import Paired
from hbo.compare.table import Contest, Table

JUDGED = "macro NLL"
TOO_SMALL = 0.005
"""Share of a loss below which a difference matters to nobody, however sure it is."""
_ENOUGH = 6  # seeds from which the exact test can find a difference


def is_too_small(difference: float, baseline: float) -> bool:
    """Whether a difference of two means is less than `TOO_SMALL` of the baseline's; never where that can't be said.

    Example:
        >>> is_too_small(0.004, 1.0), is_too_small(-0.005, 1.0), is_too_small(0.0, 0.0)
        (True, False, False)
    """
    return bool(baseline) and abs(difference / baseline) < TOO_SMALL


def verdict(table: Table | None) -> str:
    """The sentence, which claims no more than the seeds show.

    Example:
        >>> verdict(None)
        'No run is finished yet.'
    """
    if table is None:
        return "No run is finished yet."
    contest = next((each for each in table.contests if each.column.name == JUDGED), None)
    ours = None if contest is None else table.leading(table.judged, contest.column)
    if contest is None or ours is None:
        return _unjudged(table, table.baselines if contest is None else table.judged)
    found = next(each.found for each in contest.differences if each.label == ours)
    return _told(ours, contest, found, table)


def _unjudged(table: Table, lacking: list[str]) -> str:
    """Why there is no verdict: none of the `lacking` rows has a mean loss, or there is no such row."""
    if not lacking:
        missing = "hbo" if table.baselines else "a baseline such as proportional"
        return f"There is nothing to judge yet: name {missing} in --methods too."
    if not table.losses:
        return (
            "There is nothing to judge: no run has a held-out loss; hold rows out (mixture.eval_fraction), or lower "
            "train.learning_rate if training diverged, and give another --output."
        )
    return (
        f"There is nothing to judge: no run of {', '.join(lacking)} has a held-out loss of every dataset; if training "
        "diverged, lower train.learning_rate and give another --output."
    )


def _told(ours: str, contest: Contest, found: Paired, table: Table) -> str:
    theirs = table.entries[contest.best, contest.column].mean
    if not found.pairs:
        return f"There is nothing to judge yet: {ours} and {contest.best} have no finished seed in common."
    share = found.mean / theirs if theirs else 0.0
    way = "lower" if share < 0 else "higher"
    small = ", which is too small to matter" if is_too_small(found.mean, theirs) else ""
    other = f"that of {contest.best}, the best other method"
    told = f"the mean held-out loss of {ours} is {abs(share):.1%} {way} than {other}{small}"
    if not share:
        told = f"the mean held-out loss of {ours} is the same as {other}"
    seeds = f"{found.pairs} seeds, p = {found.p:.3f}"
    if found.pairs == 1:
        return f"One seed can't tell {ours} from chance: {told}. Run {_ENOUGH} seeds or more."
    match found.verdict:
        case "lower":
            return f"{'A small gain' if small else 'Balancing helped'}: {told} ({seeds})."
        case "higher":
            return f"{'A small loss' if small else 'Balancing did harm'}: {told} ({seeds})."
        case said if "too few" in said:
            return (
                f"{ours} may be {'better' if share < 0 else 'worse'}, but {found.pairs} seeds are too few to tell, "
                f"although all agree: {told}. Run {_ENOUGH} seeds or more."
            )
    return f"No difference was seen between {ours} and {contest.best} ({seeds}): {told}; that is within chance."
