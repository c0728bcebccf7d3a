"""The sections of a page, in one table: for each its template, when it shows, and what the template needs.

A page shows one run, or several side by side, and every section takes all of them. A new section is a template of its
name and an entry in `SECTIONS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from hbo.config.methods import UPDATE_EVERY
from hbo.folder.benchmarks import Measure
from hbo.folder.mixture import Mixture
from hbo.folder.run import Run
from hbo.report.balance_sections import (
    Figures,
    Runs,
    TemplateFacts,
    beside,
    drawn_facts,
    global_facts,
    labels_of,
    legend_keys,
    local_facts,
    marked,
    rewards_facts,
)
from hbo.report.held_out import before_and_after, held_out_facts, rows_scored
from hbo.report.helped import helped
from hbo.report.lengths import length_note
from hbo.report.markup import (
    MISSING,
    Grid,
    in_percent,
    markup,
    name,
    number,
    swatch,
    time_span,
    whole_number,
    with_error,
)
from hbo.report.series import Shown, places
from hbo.report.standing import standing, whether_balancing_helped
from hbo.report.words import PAPER_NAMES, moved, reasons, task

_MOST_SETTINGS = 40
_FEW_SETTINGS = 12  # more of them are folded up
_CONSTANTS = {"None": "null", "True": "true", "False": "false", "inf": "∞"}
_APART_ANYWAY = frozenset({"output"})
PAPER_BATCH = 64
"""Rows of a step in the paper."""
_METRICS = {"ifd": "IFD (how little the instruction helps)", "perplexity": "perplexity", "loss": "loss"}
_MACRO = Markup("<strong>Mean (macro)</strong>")
_ENVIRONMENT = {"python": "Python", "machine": "Machine", "date": "Date"}  # what is no package


@dataclass(frozen=True)
class PageSection:
    """A section: `templates/<anchor>.html`.

    Attributes:
        anchor: Its id in the page, and its template's name.
        link: What the navigation calls it; nothing leaves it out there.
        facts: From the runs and the figures to what the template needs.
        shows: Whether these runs have the section.
    """

    anchor: str
    link: str
    facts: Callable[[Runs, Figures], TemplateFacts] = lambda runs, figures: {}
    shows: Callable[[Runs], bool] = bool


def _header_facts(runs: Runs, figures: Figures) -> TemplateFacts:
    if len(runs) > 1:
        return {"differences": list(_differences(runs))}
    run, series = runs[0].run, runs[0].series
    about = {
        "Method": run.method,
        "Model": run.model_name,
        "Seed": run.seed,
        "Steps": f"{run.steps:,} of {run.planned:,}" if run.planned > run.steps else f"{run.steps:,}",
        "Updates": f"{len(run.lines) - 1:,}",
        "Groups per dataset": series.groups,
    }
    whether, command = whether_balancing_helped(run)
    told = {"What happened": moved(run, series, name), "Why": reasons(run, series, name)}
    return {
        "task": task(run, series),
        "helped": _joined(helped(run, name)),
        "whether": whether,
        "command": command,
        "story": [(term, _joined(sentences)) for term, sentences in told.items()],
        "standing": standing(run),
        "lengths": _joined([length_note(run, name)]),
        "about": about.items(),
    }


def _differences(runs: Runs) -> Iterator[str]:
    """Where not all runs have the same datasets, or not as many groups."""
    for dataset in places(runs):
        having = [name(shown.label) for shown in runs if dataset in shown.run.datasets]
        if len(having) < len(runs):
            yield markup("{} is only in {}", name(dataset), Markup(", ").join(having))
    if len({shown.series.groups for shown in runs}) > 1:
        cut = [markup("{} {}", name(shown.label), shown.series.groups) for shown in runs]
        yield markup("the datasets are cut into different numbers of groups: {}", Markup(", ").join(cut))


def _glance_facts(runs: Runs, figures: Figures) -> TemplateFacts:
    head = ["Run", "Method", "Seed", "Steps", "Updates", "Held-out loss before", "After", "Change", "Overhead"]
    caption = "Runs; held-out loss is the mean over datasets, in nats per response token"
    differing = list(_differing_settings(runs))
    told = [
        (
            name(s.label),
            _joined([*moved(s.run, s.series, name), *helped(s.run, name)]),
            _joined(reasons(s.run, s.series, name)),
        )
        for s in runs
    ]
    return {
        "runs_table": Grid(caption, head, [_glance_row(shown) for shown in runs]),
        "told": told,
        "differing": Grid("Settings that differ", ["Setting", *labels_of(runs)], differing[:_MOST_SETTINGS]),
        "left_out": len(differing) - _MOST_SETTINGS,
        "folded": f"{len(differing)} settings that differ" if len(differing) > _FEW_SETTINGS else "",
    }


def _glance_row(shown: Shown) -> list[str]:
    run, metrics = shown.run, shown.run.metrics
    of = f" of {run.planned:,}" if run.planned > run.steps else ""
    state = "" if run.has_finished else f"{of}, unfinished"
    before, after = (metrics.macro_before, metrics.macro_nll) if metrics else (None, None)
    steps = [f"{run.steps:,}{state}", f"{len(run.lines) - 1:,}"]
    overhead = in_percent(metrics.balance_overhead if metrics else None)
    return [name(shown.label), run.method, run.seed, *steps, *before_and_after(before, after), overhead]


def _differing_settings(runs: Runs) -> Iterator[list[str]]:
    flat = [dict(_flat(shown.run.config)) for shown in runs]
    for key in dict.fromkeys(key for each in flat for key in each):
        values = [each.get(key, "–") for each in flat]
        if len(set(values)) > 1 and key not in _APART_ANYWAY:
            yield [markup("<code>{}</code>", key), *values]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, _CONSTANTS.get(str(value), str(value)[:80])


def _evaluation_facts(runs: Runs, figures: Figures) -> TemplateFacts:
    found = runs[0].run.evaluation
    assert found
    languages = list(dict.fromkeys(each for rows in found.languages.values() if len(rows) > 1 for each in rows))
    rows = []
    for task_name, measure in found.tasks.items():
        of = found.languages[task_name]
        rows.append([name(task_name), *(_accuracy(each) for each in (measure, *map(of.get, languages)))])
    for key, mean in found.averages.items():
        label = markup("<strong>{}</strong>", PAPER_NAMES.get(key, key))
        rows.append([label, _accuracy(mean), *[""] * len(languages)])
    return {"accuracy": Grid("Accuracy on benchmarks", ["Task", "Accuracy", *languages], rows)}


def _accuracy(measure: Measure | None) -> str:
    return "" if measure is None else with_error(100 * measure.accuracy, 100 * measure.error, 1)


def _loss_facts(runs: Runs, figures: Figures) -> TemplateFacts:
    is_drawn = any(key.endswith("loss") for key in figures)
    if len(runs) > 1:
        return {"why_none": "" if is_drawn else "No run has logged a training loss yet."}
    run = runs[0].run
    if run.training is None or not is_drawn:
        why = "has written no trainer_state.json yet" if run.training is None else "logged no training loss"
        return {"why_none": f"The run {why}."}
    rows = []
    for key, said in legend_keys(runs, figures, "loss").items():
        logged = "loss" if key == "overall" else f"loss/{run.datasets[int(key[1:])]}"
        _, values = run.training.series(logged)
        shown = [values[0], values[-1], min(filter(math.isfinite, values), default=None)]
        rows.append([swatch(key) + said, *map(number, shown), whole_number(len(values))])
    return {"why_none": "", "numbers": Grid("Training loss", ["Series", "First", "Last", "Lowest", "Points"], rows)}


def _mixture_facts(runs: Runs, figures: Figures) -> TemplateFacts:
    examples = [(d, found) for d in places(runs) if (found := _with_examples(runs, d))]
    facts = {"examples": examples, "score": _score, "is_finite": math.isfinite, "missing": MISSING}
    if len(runs) > 1:
        return facts | {"sizes": beside("Rows per dataset", runs, _size_and_start)}
    run, series = runs[0].run, runs[0].series
    total, rows = sum(map(sum, run.sizes.values())), []
    for k, dataset in enumerate(run.datasets):
        size = sum(run.sizes[dataset]) if dataset in run.sizes else None
        share, start = in_percent(size / total if size else None), in_percent(series.p_SK[0, k])
        rows.append([marked(k, dataset), whole_number(size), share, start, _held_back(run, dataset)])
    head = ["Dataset", "Rows to train on", "Share of all rows", "Share drawn at the start", "Rows held out"]
    metric = _METRICS.get(run.mixture.metric, run.mixture.metric) if run.mixture else ""
    return facts | {"groups": series.groups, "metric": metric, "sizes": Grid("What was trained on", head, rows)}


def _with_examples(runs: Runs, dataset: str) -> Mixture | None:
    """The mixture of the first run that tells of example rows of the dataset."""
    known = [shown.run.mixture for shown in runs if shown.run.mixture]
    return next((m for m in known if any(group.examples for group in m.groups.get(dataset, ()))), None)


def _size_and_start(shown: Shown, dataset: str) -> str:
    if dataset not in shown.run.datasets:
        return MISSING
    size, start = shown.run.sizes.get(dataset), shown.series.p_SK[0, shown.run.datasets.index(dataset)]
    return markup("{} <small>{} of the draws</small>", whole_number(sum(size) if size else None), in_percent(start))


def _held_back(run: Run, dataset: str) -> str:
    if run.mixture and dataset in run.mixture.datasets:
        return whole_number(run.mixture.datasets[dataset].held_out)
    return rows_scored(run.metrics.before.get(dataset) if run.metrics else None)


def _score(value: float) -> str:
    """Two decimals, or two digits of what would be 0.00: easy groups often lie below."""
    if abs(value) >= 0.1 or abs(value) < 1e-6:
        return number(value, 2)
    return number(value, 1 - math.floor(math.log10(abs(value))))


def _cost_facts(runs: Runs, figures: Figures) -> TemplateFacts:
    found = [dict(_costs(shown.run)) for shown in runs]
    if len(runs) == 1:
        return {"costs": found[0].items()}
    terms = dict.fromkeys(term for each in found for term in each)
    rows = [[term, *(each.get(term, MISSING) for each in found)] for term in terms]
    return {"costs": Grid("Cost and environment", ["", *labels_of(runs)], rows)}


def _costs(run: Run) -> Iterator[tuple[str, str]]:
    """What the run cost, and the environment it ran in."""
    metrics, probed = run.metrics, f"{sum(line.probes for line in run.lines):,}"
    balancing = metrics.balance_seconds if metrics else None
    if balancing is None:
        balancing = sum(line.seconds for line in run.lines)
    if metrics:
        yield "Training", time_span(metrics.train_seconds)
    yield "Balancing", time_span(balancing)
    if not metrics:
        yield "Rows probed", probed
        return
    yield "Overhead of balancing", in_percent(metrics.balance_overhead)
    if (share := overhead_in_the_paper(run)) is not None:
        yield (
            f"The same at the paper's interval ({UPDATE_EVERY} steps of {PAPER_BATCH} rows)",
            f"about {in_percent(share)}",
        )
    yield "Rows probed", probed
    yield "Tokens", whole_number(metrics.tokens)
    tokens, seconds = metrics.tokens, metrics.train_seconds
    yield "Tokens per second", number(tokens / seconds if tokens and seconds else None, 0)
    yield from ((_ENVIRONMENT.get(key, key), value) for key, value in metrics.environment.items())


def overhead_in_the_paper(run: Run) -> float | None:
    """What balancing would add if an update came as seldom as in the paper; None where that can't be said.

    An update costs what it cost here, and a row too: only how many rows lie between two updates is another number.
    """
    metrics, updates = run.metrics, len(run.lines) - 1
    rows = sum(map(sum, metrics.drawn.values())) if metrics else 0
    if not metrics or not metrics.balance_seconds or not metrics.train_seconds or not updates or not rows:
        return None
    between, plain = rows / updates, metrics.train_seconds - metrics.balance_seconds
    if between >= UPDATE_EVERY * PAPER_BATCH or plain <= 0:
        return None
    return metrics.balance_seconds / plain * between / (UPDATE_EVERY * PAPER_BATCH)


def _joined(sentences: Sequence[str]) -> Markup:
    """Sentences as HTML: the names in them were escaped when they were made, and all else is ours."""
    return Markup(" ".join(sentences))


def _several(runs: Runs) -> bool:
    return len(runs) > 1


def _has_benchmarks(runs: Runs) -> bool:
    found = runs[0].run.evaluation
    return len(runs) == 1 and found is not None and bool(found.tasks)


SECTIONS = (
    PageSection("header", "", _header_facts),
    PageSection("glance", "At a glance", _glance_facts, _several),
    PageSection("held-out", "Held-out", held_out_facts),
    PageSection("evaluation", "Benchmarks", _evaluation_facts, _has_benchmarks),
    PageSection("legend", "", shows=_several),
    PageSection("global-p", "Datasets", global_facts),
    PageSection("local-p", "Groups", local_facts),
    PageSection("rewards", "Rewards", rewards_facts),
    PageSection("loss", "Loss", _loss_facts),
    PageSection("mixture", "Mixture", _mixture_facts),
    PageSection("drawn", "Rows drawn", drawn_facts),
    PageSection("cost", "Cost", _cost_facts),
    PageSection("config", "Configuration"),
)
"""In the order in which a page shows them."""
