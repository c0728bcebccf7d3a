"""The tables of several runs: a column for each run, and a line for each dataset, cost or setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hbo.folder.run import Run
from hbo.report import markup
from hbo.report.drawn_section import percent, repeated
from hbo.report.markup import MISSING, how_to_read, name, number, section, swatch, table, text
from hbo.report.mixture_section import example_rows
from hbo.report.reasons import reasons
from hbo.report.results_sections import change, costs, moved_by
from hbo.report.runs import Shown, places
from hbo.report.summary import summary
from hbo.report.tables import epochs

_MOST_SETTINGS = 40
_FEW_SETTINGS = 12  # more of them are folded up
_WORDS = {"None": "null", "True": "true", "False": "false", "inf": "∞"}
_APART_ANYWAY = frozenset({"output"})


def header(runs: Sequence[Shown]) -> str:
    """Title, the runs at a glance, what each did in words, and in which settings they differ."""
    told = "".join(f"<div><dt>{name(shown.label)}</dt><dd>{_told(shown)}</dd></div>" for shown in runs)
    rows = [_glance(shown) for shown in runs]
    head = ["Run", "Method", "Seed", "Steps", "Updates", "Held-out loss before", "After", "Change", "Overhead"]
    differing = list(_settings(runs))
    settings = table("Settings that differ", ["Setting", *_names(runs)], differing[:_MOST_SETTINGS])
    more = len(differing) - _MOST_SETTINGS
    settings += f"<p>{more} more settings differ.</p>" if more > 0 else ""
    if len(differing) > _FEW_SETTINGS:
        settings = markup.details(f"{len(differing)} settings that differ", settings)
    return (
        f'<header><p class="kicker">Hierarchical balancing report</p><h1>{len(runs)} runs side by side</h1>'
        '<p class="lead">Language models were fine-tuned on several datasets at once. A balancing method may measure '
        "while it trains how much is still to be learnt from each dataset, and from its easy and hard rows, and "
        "draw more of what it finds rewarding. A dataset has the same colour in every run; a button of the legend "
        f"hides its lines in all charts.</p>{_differences(runs)}</header>"
        + section(
            "glance",
            "At a glance",
            table("Runs; held-out loss is the mean over datasets, in nats per response token", head, rows),
            f'<dl class="story">{told}</dl>',
            settings if differing else "<p>The runs have the same settings.</p>",
        )
    )


def _told(shown: Shown) -> str:
    """What the run did, with its reasons folded: of eight runs they would fill the first screens."""
    why = " ".join(reasons(shown.run, shown.series, name))
    return " ".join(summary(shown.run, shown.series, name)) + (markup.details("Why", f"<p>{why}</p>") if why else "")


def held_out(runs: Sequence[Shown]) -> str:
    """Loss after training per dataset and run, with its change, and the accuracy where it was measured."""
    rows = []
    for dataset, place in _all_datasets(runs).items():
        key = swatch(f"d{place}") if place is not None else ""
        rows.append([key + name(dataset), *(_loss_cell(shown.run, dataset) for shown in runs)])
    means = [number(shown.run.metrics.macro_nll) if shown.run.metrics else MISSING for shown in runs]
    ratios = [number(shown.run.metrics.relative_nll) if shown.run.metrics else MISSING for shown in runs]
    rows += [["<strong>Mean (macro)</strong>", *means], ["After ÷ before, mean over datasets", *ratios]]
    return section(
        "held-out",
        "Held-out loss",
        how_to_read(
            "held-out",
            "loss per response token in nats, on rows that were never trained on, and how it changed in training; "
            "lower is better, and ▼ marks an improvement. A single seed proves no difference between methods.",
        ),
        table("Held-out loss after training", ["Dataset", *_names(runs)], rows),
        _accuracies(runs),
    )


def mixture(runs: Sequence[Shown]) -> str:
    """Rows and prior of each dataset in each run, and example rows of the first run that has some."""
    rows, examples = [], []
    for dataset, place in places(runs).items():
        cells = []
        for shown in runs:
            if dataset not in shown.run.datasets:
                cells.append(MISSING)
                continue
            size, start = shown.run.sizes.get(dataset), shown.series.p_SK[0, shown.run.datasets.index(dataset)]
            cells.append(f"{MISSING if size is None else f'{sum(size):,}'} <small>p = {number(start)}</small>")
        rows.append([swatch(f"d{place}") + name(dataset), *cells])
        examples.append(next((found for shown in runs if (found := example_rows(shown.run, dataset))), ""))
    explained = how_to_read("mixture", "rows to train on, and the probability p with which a run began.")
    return section(
        "mixture", "The mixtures", explained, table("Rows per dataset", ["Dataset", *_names(runs)], rows), *examples
    )


def probabilities(runs: Sequence[Shown], *, inside: bool) -> str:
    """The numbers behind the charts: each dataset's probability, or each group's `inside` its dataset."""
    rows = []
    for dataset, place in places(runs).items():
        levels = max(len(shown.run.lines[0].q_KL[k]) for shown in runs for k in _places_of(shown, dataset))
        for j in range(levels) if inside else [-1]:
            cells = []
            for shown in runs:
                series = shown.series
                found = [
                    series.p_SK[[0, -1], k] if j < 0 else series.q_SKL[[0, -1], k, j]
                    for k in _places_of(shown, dataset)
                    if j < series.groups
                ]
                cells.append(" → ".join(map(number, found[0])) if found else MISSING)
            rows.append([swatch(f"d{place}") + name(dataset) + (f" g{j + 1}" if inside else ""), *cells])
    caption = f"Probability {'of each group' if inside else 'of each dataset'}, at the start → after the last update"
    return markup.details("Numbers", table(caption, ["", *_names(runs)], rows))


def _places_of(shown: Shown, dataset: str) -> list[int]:
    return [k for k, each in enumerate(shown.run.datasets) if each == dataset]


def drawn(runs: Sequence[Shown]) -> str:
    """The share of the rows that each dataset really gave, what was asked, and its most repeated group."""
    rows = [
        [swatch(f"d{place}") + name(dataset), *(_drawn_cell(shown, dataset) for shown in runs)]
        for dataset, place in places(runs).items()
    ]
    notes = []
    for shown in runs:
        seen_KL = epochs(shown.series.drawn_KL, shown.run.sizes, shown.run.datasets)
        notes.append(repeated(shown.run, seen_KL, f"{name(shown.label)}: "))
    return section(
        "drawn",
        "Rows drawn",
        how_to_read(
            "drawn",
            "the dataset's share of all rows drawn, the share that the probabilities asked for, and how often the rows "
            "of its most repeated group were seen.",
        ),
        *notes,
        table("Rows drawn per dataset", ["Dataset", *_names(runs)], rows, "heat"),
    )


def cost(runs: Sequence[Shown]) -> str:
    """Time, tokens, overhead and environment of each run."""
    found = [dict(costs(shown.run)) for shown in runs]
    terms = dict.fromkeys(term for each in found for term in each)
    rows = [[text(term), *(each.get(term, MISSING) for each in found)] for term in terms]
    return section("cost", "Cost and environment", table("Cost and environment", ["", *_names(runs)], rows))


def configuration(runs: Sequence[Shown]) -> str:
    """Each run's configuration, folded."""
    parts = []
    for shown in runs:
        listing = f'<pre tabindex="0" dir="ltr"><code>{text(shown.run.config_text)}</code></pre>'
        parts.append(markup.details(f"config.yaml of {shown.label}", listing) if shown.run.config_text else "")
    return section("config", "Configurations", *parts)


def _names(runs: Sequence[Shown]) -> list[str]:
    return [name(shown.label) for shown in runs]


def _glance(shown: Shown) -> list[str]:
    run, metrics = shown.run, shown.run.metrics
    planned = run.training.max_steps if run.training else 0
    state = "" if metrics else f" of {planned:,}, unfinished" if planned > run.steps else ", unfinished"
    before, after = (metrics.macro_before, metrics.macro_nll) if metrics else (None, None)
    overhead = metrics.balance_overhead if metrics else None
    return [
        name(shown.label),
        text(run.method),
        text(run.seed),
        f"{run.steps:,}{state}",
        f"{len(run.lines) - 1:,}",
        number(before),
        number(after),
        change(before, after),
        MISSING if overhead is None else f"{number(100 * overhead, 1)} %",
    ]


def _differences(runs: Sequence[Shown]) -> str:
    """A note where not all runs have the same datasets, or not as many groups."""
    notes = []
    everywhere = {dataset for dataset in places(runs) if all(dataset in shown.run.datasets for shown in runs)}
    for dataset in (dataset for dataset in places(runs) if dataset not in everywhere):
        having = [name(shown.label) for shown in runs if dataset in shown.run.datasets]
        notes.append(f"{name(dataset)} is only in {', '.join(having)}")
    if len({shown.series.groups for shown in runs}) > 1:
        cut = [f"{name(shown.label)} {shown.series.groups}" for shown in runs]
        notes.append(f"the datasets are cut into different numbers of groups: {', '.join(cut)}")
    return f'<p class="note"><strong>Mixtures differ:</strong> {"; ".join(notes)}.</p>' if notes else ""


def _settings(runs: Sequence[Shown]) -> Iterator[list[str]]:
    flat = [dict(_flat(shown.run.config)) for shown in runs]
    for key in dict.fromkeys(key for each in flat for key in each):
        values = [each.get(key, "–") for each in flat]
        if len(set(values)) > 1 and key not in _APART_ANYWAY:
            yield [f"<code>{text(key)}</code>", *map(text, values)]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, _WORDS.get(str(value), str(value)[:80])


def _all_datasets(runs: Sequence[Shown]) -> dict[str, int | None]:
    """Those of the mixtures, and any other that was scored."""
    found: dict[str, int | None] = dict(places(runs))
    for metrics in (shown.run.metrics for shown in runs):
        found |= {dataset: None for dataset in (metrics.after if metrics else ()) if dataset not in found}
    return found


def _loss_cell(run: Run, dataset: str) -> str:
    before, after = (run.metrics.before.get(dataset), run.metrics.after.get(dataset)) if run.metrics else (None, None)
    if after is None:
        return MISSING
    moved = f"<small>{moved_by(before.nll, after.nll)}</small>" if before else ""
    return f"{number(after.nll)} {moved}"


def _accuracies(runs: Sequence[Shown]) -> str:
    rows = []
    for dataset, place in _all_datasets(runs).items():
        cells = []
        for shown in runs:
            right = shown.run.metrics.right.get(dataset) if shown.run.metrics else None
            first = shown.run.metrics.right_before.get(dataset) if shown.run.metrics else None
            was = f" <small>was {percent(first.value)}</small>" if first else ""
            cells.append(f"{percent(right.value)}{was}" if right else MISSING)
        if any(cell != MISSING for cell in cells):
            rows.append([(swatch(f"d{place}") if place is not None else "") + name(dataset), *cells])
    return table("Accuracy after training", ["Dataset", *_names(runs)], rows) if rows else ""


def _drawn_cell(shown: Shown, dataset: str) -> str:
    run, series = shown.run, shown.series
    total = float(series.drawn_KL.sum())
    if dataset not in run.datasets or total == 0:
        return f"<td>{MISSING}</td>"
    k = run.datasets.index(dataset)
    share, asked = series.drawn_KL[k].sum() / total, series.asked_KL[k].sum() / total
    seen = epochs(series.drawn_KL, run.sizes, run.datasets)[k]
    most = ""
    if np.isfinite(seen).any():
        level = int(np.nanargmax(seen))
        most = f"<small>g{level + 1} {number(float(seen[level]), 2)} ×</small>"
    both = f"{percent(share)}<small>asked {percent(asked)}</small>"
    return f'<td class="count" style="--share:{share:.3f}">{both}{most}</td>'
