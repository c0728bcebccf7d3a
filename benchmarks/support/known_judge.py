"""Finished runs on the mixtures of recipes/known/ → a verdict for each method, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hbo.compare.grid import Cell
from hbo.folder.run import Run, read_run
from support.known_rules import KNOWN, Case, Known, Rule, Seen

Runs = dict[str, dict[int, Run]]
"""Label of a method with what is varied → seed → its finished run."""


@dataclass(frozen=True)
class Judged:
    """A method on one mixture: its case, and the rules that it breaks."""

    label: str
    case: Case
    broken: tuple[Rule, ...]

    def verdict(self, known: Known) -> str:
        """`right`, or `wrong` with the numbers of the rules, counted from 1."""
        numbers = ", ".join(str(known.rules.index(rule) + 1) for rule in self.broken)
        return f"wrong ({numbers})" if numbers else "right"


def finished(cells: Sequence[Cell]) -> Runs:
    """The runs of those cells that are finished.

    Raises:
        DataError: A file of a run's folder is broken.
    """
    found: Runs = {}
    for cell in cells:
        if cell.is_finished:
            found.setdefault(cell.label, {})[cell.seed] = read_run(cell.folder)
    return found


def seen(runs: Sequence[Run]) -> Seen:
    """What runs that differ by their seed came to, on average."""
    datasets = runs[0].datasets
    end_K = np.mean([run.lines[-1].p_K for run in runs], axis=0)
    end_KL = np.mean([run.lines[-1].q_KL for run in runs], axis=0)
    drawn_KL = np.mean([drawn for run in runs if (drawn := run.drawn_KL)], axis=0)
    size_K = np.array([sum(runs[0].sizes[name]) for name in datasets])
    drawn_K = drawn_KL.sum(axis=1)
    # Of a dataset of which no row was drawn nothing came from any group.
    drawn_L = (drawn_KL / np.maximum(drawn_K, 1)[:, None]).mean(axis=0)
    nll = {name: float(np.mean([run.metrics.after[name].nll for run in runs if run.metrics])) for name in datasets}

    def named(value_K: np.ndarray) -> dict[str, float]:
        return dict(zip(datasets, map(float, value_K), strict=True))

    return Seen(
        end=named(end_K),
        drawn=named(drawn_K / drawn_K.sum()),
        passes=named(drawn_K / size_K),
        end_L=tuple(map(float, end_KL.mean(axis=0))),
        drawn_L=tuple(map(float, drawn_L)),
        nll=nll,
    )


def judged(known: Known, runs: Runs, once: Runs | None = None) -> list[Judged]:
    """Every method that has finished on seeds on which also those have that its rules compare it with."""
    found = []
    for label, by_seed in runs.items():
        beside = [by_seed, *(runs.get(name, {}) for name in known.static)]
        if known.once:
            beside.append((once or {}).get(label, {}))
        seeds = sorted(set.intersection(*map(set, beside)))
        if seeds:
            static = {name: seen([runs[name][seed] for seed in seeds]) for name in known.static}
            alone = seen([once[label][seed] for seed in seeds]) if known.once and once else None
            case = Case(seen([by_seed[seed] for seed in seeds]), static, alone, len(seeds))
            found.append(Judged(label, case, tuple(known.broken(case))))
    return found


def summary(results: Mapping[str, Sequence[Judged]]) -> str:
    """A row per method and a column per mixture."""
    verdicts = {
        (judgement.label, name): judgement.verdict(KNOWN[name])
        for name, judgements in results.items()
        for judgement in judgements
    }
    labels = list(dict.fromkeys(label for label, _ in verdicts))
    rows = []
    for label in labels:
        found = [verdicts.get((label, name), "") for name in results]
        right = sum(verdict == "right" for verdict in found)
        rows.append([f"`{label}`", *found, f"{right} of {sum(map(bool, found))}"])
    return _table(["method", *(f"[{name}](#{name})" for name in results), "right"], rows)


def section(name: str, judgements: Sequence[Judged]) -> str:
    """What is known of a mixture, its rules, and a row per method."""
    known = KNOWN[name]
    rules = "\n".join(f"{i}. {rule.says}{_bounds(rule)}" for i, rule in enumerate(known.rules, 1))
    text = f"### {name}\n\n{known.about} {known.answer}\n\n{rules}\n"
    return f"{text}\n{_figures(known, judgements)}" if judgements else f"{text}\nNot run yet.\n"


def _figures(known: Known, judgements: Sequence[Judged]) -> str:
    datasets = list(judgements[0].case.own.end)
    groups = any("group" in rule.says for rule in known.rules)
    head = ["method", "seeds", *(f"share of {name}" for name in datasets)]
    head += ["groups, easiest first"] if groups else []
    head += [*(f"loss of {name}" for name in datasets), "verdict"]
    rows = []
    for judgement in judgements:
        own = judgement.case.own
        row = [f"`{judgement.label}`", str(judgement.case.seeds)]
        row += [f"{own.end[name]:.2f} ({own.drawn[name]:.2f})" for name in datasets]
        row += [" ".join(f"{share:.2f}" for share in own.end_L) + f" ({own.drawn_L[-1]:.2f})"] if groups else []
        row += [f"{own.nll[name]:.3f}" for name in datasets]
        rows.append([*row, judgement.verdict(known)])
    return _table(head, rows)


def _bounds(rule: Rule) -> str:
    return f", by more than {rule.most:g} nats / √seeds" if rule.by_chance else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
