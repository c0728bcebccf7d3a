"""What a good balancer does on each mixture of recipes/known/, written down before any method was run on them.

A rule is a number that a finished run has, and bounds that it must keep; a method is right on a mixture if it keeps all
of them. "Even share" is 1/K, what uniform sampling gives each of K datasets. A loss that is compared with a static
sampler's may lie above it by chance. On recipes/tiny.yaml, over the seeds of docs/results.md, a dataset's held-out loss
has a standard deviation of about 0.022 nats and the mean over datasets 0.013, so the difference of two runs has 0.031
and 0.019: twice that is the tolerance, divided by the root of the number of seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

ONE, SEVERAL = 0.06, 0.04
"""Nats that the loss of one dataset, or the mean over several, may lie above another run's by chance, with one seed."""


@dataclass(frozen=True)
class Seen:
    """What the runs of a method on one mixture came to, means over seeds.

    Attributes:
        end: Dataset → probability that the last update left it.
        drawn: Dataset → share of all rows that were trained on.
        passes: Dataset → how often each of its rows was trained on.
        end_L: Probability of each difficulty group, easiest first, as the last update left it; mean over datasets.
        drawn_L: Share of a dataset's rows that came from each group; mean over datasets.
        nll: Dataset → loss of its held-out rows after training.
    """

    end: Mapping[str, float]
    drawn: Mapping[str, float]
    passes: Mapping[str, float]
    end_L: tuple[float, ...]
    drawn_L: tuple[float, ...]
    nll: Mapping[str, float]


@dataclass(frozen=True)
class Case:
    """A method's runs, and what they are compared with.

    Attributes:
        own: The method's.
        static: Static method → its runs on the same mixture and seeds.
        once: The method's runs on the companion mixture, where there is one.
        seeds: How many.
    """

    own: Seen
    static: Mapping[str, Seen]
    once: Seen | None = None
    seeds: int = 1

    def even(self, dataset: str) -> float:
        """The probability that `dataset` ended with, in even shares."""
        return self.own.end[dataset] * len(self.own.end)

    def drawn(self, dataset: str) -> float:
        """The share of rows drawn that came from it, likewise."""
        return self.own.drawn[dataset] * len(self.own.drawn)

    def above(self, *datasets: str, than: tuple[str, ...] = ("uniform",)) -> float:
        """The mean loss of these datasets above the lowest that one of the static methods has."""
        return _mean(self.own, datasets) - min(_mean(self.static[name], datasets) for name in than)


@dataclass(frozen=True)
class Rule:
    """One condition: `value` must lie between `least` and `most`.

    Attributes:
        says: The condition in words.
        value: What of a case it is about.
        most: The largest value that is right.
        least: The smallest.
        by_chance: Whether the bounds are what a difference of losses may be by chance with one seed.
        unless: What excuses a method that breaks it.
    """

    says: str
    value: Callable[[Case], float]
    most: float = math.inf
    least: float = -math.inf
    by_chance: bool = False
    unless: Callable[[Case], bool] | None = None

    def holds(self, case: Case) -> bool:
        """Whether the case keeps it."""
        room = math.sqrt(case.seeds) if self.by_chance else 1
        kept = self.least / room <= self.value(case) <= self.most / room
        return kept or (self.unless is not None and self.unless(case))


@dataclass(frozen=True)
class Known:
    """A mixture, what it is, and its rules.

    Attributes:
        about: What is odd about it.
        answer: What a good balancer does.
        rules: All of which must hold.
        static: Static methods that the rules compare with.
        once: The companion mixture of the rules, if they need one.
    """

    about: str
    answer: str
    rules: tuple[Rule, ...]
    static: tuple[str, ...] = ("uniform",)
    once: str | None = None

    def broken(self, case: Case) -> list[Rule]:
        """The rules that the case breaks; none: it is right."""
        return [rule for rule in self.rules if not rule.holds(case)]


def _mean(seen: Seen, datasets: tuple[str, ...]) -> float:
    return sum(seen.nll[name] for name in datasets) / len(datasets)


def _twins_beyond_once(case: Case) -> float:
    """The twins' shares together, above the middle of counting once (s) and counting in full twice (2s / (1 + s))."""
    assert case.once is not None
    once = case.once.end["math"]
    return case.own.end["math"] + case.own.end["math-again"] - (once + 2 * once / (1 + once)) / 2


def _twins_apart(case: Case) -> float:
    twins = case.own.end["math"], case.own.end["math-again"]
    return max(twins) / min(twins)


def _lowers_both(case: Case) -> bool:
    """Whether both lengths are learned better than by uniform sampling, by more than chance."""
    return all(case.above(name) < -ONE / math.sqrt(case.seeds) for name in ("short", "long"))


def _others(*datasets: str) -> Rule:
    named = " and ".join(datasets)
    return Rule(
        f"the loss of {named} is not above uniform's", lambda case: case.above(*datasets), most=SEVERAL, by_chance=True
    )


KNOWN: dict[str, Known] = {
    "useless": Known(
        "The answers of `shuffled` are those of other rows: after their form there is nothing to learn from them.",
        "A good balancer turns away from `shuffled`, and the others gain or at least don't lose.",
        (
            Rule("`shuffled` ends at 0.8 of an even share or less", lambda case: case.even("shuffled"), most=0.8),
            Rule("it got 0.95 of an even share or less of all rows", lambda case: case.drawn("shuffled"), most=0.95),
            _others("general", "math"),
        ),
    ),
    "mastered": Known(
        "Every answer of `mastered` is the same sentence, which the model has mastered within 20 steps.",
        "A good balancer leaves `mastered` alone, and it stays mastered.",
        (
            Rule("`mastered` ends at half an even share or less", lambda case: case.even("mastered"), most=0.5),
            Rule("it got 0.75 of an even share or less of all rows", lambda case: case.drawn("mastered"), most=0.75),
            Rule("its held-out loss ends at 0.1 nats or less", lambda case: case.own.nll["mastered"], most=0.1),
            _others("general", "math"),
        ),
    ),
    "few": Known(
        "`few` has 40 rows to train on, which uniform sampling repeats until it overfits them.",
        "A good balancer draws them no more often than four times each, the number up to which repeated rows are said "
        "to be nearly as good as new ones, and no dataset pays for it.",
        (
            Rule(
                "each row of `few` was drawn four times or less",
                lambda case: case.own.passes["few"],
                most=4,
            ),
            Rule("`few` ends at an even share or less", lambda case: case.even("few"), most=1),
            Rule(
                "its loss is not above the lower one of uniform's and proportional's",
                lambda case: case.above("few", than=("uniform", "proportional")),
                most=ONE,
                by_chance=True,
            ),
            _others("general", "math"),
        ),
        static=("uniform", "proportional"),
    ),
    "twins": Known(
        "`math-again` is `math` under another name, row by row.",
        "A good balancer gives both the same, and the two together little more than the one dataset gets where it "
        "stands once.",
        (
            Rule("the twins end within a factor of 1.25 of each other", _twins_apart, most=1.25),
            Rule(
                "together they end nearer to what `math` gets alone than to what two such datasets would",
                _twins_beyond_once,
                most=0,
            ),
            Rule(
                "the loss of general is not above uniform's",
                lambda case: case.above("general"),
                most=ONE,
                by_chance=True,
            ),
        ),
        once="once",
    ),
    "helper": Known(
        "`target` has 40 rows of its own to train on; `helper` has 200 more of the same kind, new to it.",
        "A good balancer draws new rows of the kind rather than the same few again: `helper` lowers both losses.",
        (
            Rule("`helper` ends at 0.95 of an even share or more", lambda case: case.even("helper"), least=0.95),
            Rule(
                "`target` ends at 0.8 of the share of `helper` or less",
                lambda case: case.own.end["target"] / case.own.end["helper"],
                most=0.8,
            ),
            Rule(
                "the loss of target is not above uniform's", lambda case: case.above("target"), most=ONE, by_chance=True
            ),
            _others("general", "target", "helper"),
        ),
    ),
    "wrong": Known(
        "A quarter of the rows of every dataset have wrong answers, and the difficulty score puts them all into the "
        "last group. Held-out rows have right answers.",
        "A good balancer turns away from the last group, and every dataset is learned as well as by uniform "
        "sampling or better.",
        (
            Rule(
                "the last group ends at 0.8 of an even share of its dataset or less",
                lambda case: case.own.end_L[-1] * len(case.own.end_L),
                most=0.8,
            ),
            Rule(
                "it got 0.95 of an even share or less of its dataset's rows",
                lambda case: case.own.drawn_L[-1] * len(case.own.drawn_L),
                most=0.95,
            ),
            Rule(
                "the mean loss is not above uniform's",
                lambda case: case.above(*case.own.nll),
                most=SEVERAL,
                by_chance=True,
            ),
        ),
    ),
    "length": Known(
        "`short` and `long` are cut from the same kind of text, so that a word of the one is as hard as one of the "
        "other; the responses of `long` have ten times as many.",
        "A good balancer gives neither more than twice the other's share for its length alone.",
        (
            Rule(
                "`long` ends between 1/3 and 2/3, unless both losses are below uniform's by more than chance",
                lambda case: case.own.end["long"],
                least=1 / 3,
                most=2 / 3,
                unless=_lowers_both,
            ),
            Rule(
                "neither loss is above uniform's",
                lambda case: max(case.above("short"), case.above("long")),
                most=ONE,
                by_chance=True,
            ),
        ),
    ),
}
"""Recipe in recipes/known/ → its rules."""
