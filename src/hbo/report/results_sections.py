"""The parts of the page about the model: header, held-out table, training loss, cost, configuration."""

from __future__ import annotations

import math

import numpy as np

from hbo.folder.metrics import Metrics, Score
from hbo.folder.run import Run
from hbo.report import markup
from hbo.report.figures import Figure
from hbo.report.markup import MISSING, facts, how_to_read, name, number, section, table, text
from hbo.report.reasons import reasons, task
from hbo.report.summary import summary
from hbo.report.tables import Tables


def header(run: Run, series: Tables) -> str:
    """Title, what the balancer did and why in words, what is missing, and the run in facts."""
    planned = run.training.max_steps if run.training else 0
    steps = f"{run.steps:,} of {planned:,}" if planned > run.steps else f"{run.steps:,}"
    did, why = summary(run, series, name), reasons(run, series, name)
    result = [did.pop()] if run.metrics and run.metrics.after else []
    said = [("What happened", did), ("Why", why), ("The result", result)]
    told = "".join(f"<div><dt>{term}</dt><dd>{' '.join(words)}</dd></div>" for term, words in said if words)
    return (
        f'<header><p class="kicker">Hierarchical balancing report</p><h1>{text(run.folder.resolve().name)}</h1>'
        f'<p class="lead">{text(task(run, series))}</p><dl class="story">{told}</dl>{_missing(run)}'
        + facts(
            [
                ("Method", text(run.method)),
                ("Model", text(run.model_name)),
                ("Seed", text(run.seed)),
                ("Steps", steps),
                ("Updates", f"{len(run.lines) - 1:,}"),
                ("Groups per dataset", str(series.groups)),
            ]
        )
        + "</header>"
    )


def held_out(run: Run) -> str:
    """Loss and perplexity of the held-out rows before and after, per dataset and over all."""
    title, metrics = "Held-out loss and perplexity", run.metrics
    if metrics is None or not (metrics.after or metrics.before):
        why = "The run has written no metrics.json yet." if metrics is None else "No rows were held out."
        return section("held-out", title, f'<p class="empty">{why}</p>')
    rows = []
    for dataset in [*run.datasets, *sorted({*metrics.after, *metrics.before} - {*run.datasets})]:
        before, after = metrics.before.get(dataset), metrics.after.get(dataset)
        rows.append([name(dataset), *_score_cells(before, after), *_accuracy_cells(metrics, dataset)])
    macro = [number(metrics.macro_before), number(metrics.macro_nll), change(metrics.macro_before, metrics.macro_nll)]
    rows.append(["<strong>Mean (macro)</strong>", *macro, "", "", "", *[""] * len(_accuracy_cells(metrics, ""))])
    head = ["Dataset", "Loss before", "Loss after", "Change", "Perplexity before", "Perplexity after", "Rows"]
    head += ["Accuracy before", "Accuracy after", "Rows asked"] if _was_asked(metrics) else []
    explained = how_to_read(
        "held-out",
        "rows that were never trained on; loss is the mean over rows of the mean loss per response token in nats, "
        "perplexity its counterpart; lower is better, and ▼ marks an improvement."
        + (
            " Accuracy is the share of right answers where rows are multiple choice or have a numeric answer."
            if _was_asked(metrics)
            else ""
        ),
    )
    return section(
        "held-out",
        title,
        explained,
        table("Held-out rows before and after training", head, rows),
        _relative(metrics.relative_nll),
    )


def loss(run: Run, figures: dict[str, Figure]) -> str:
    """The training loss, overall and per dataset."""
    title = "Training loss"
    if "loss" not in figures:
        why = "has written no trainer_state.json yet" if run.training is None else "logged no training loss"
        return section("loss", title, f'<p class="empty">The run {why}.</p>')
    rows = []
    for k, (key, shown) in enumerate([("loss", "all datasets"), *((f"loss/{d}", name(d)) for d in run.datasets)]):
        steps, values = run.training.series(key) if run.training else ([], [])
        finite = [value for value in values if math.isfinite(value)]
        if steps:
            low = number(min(finite)) if finite else MISSING
            swatch = markup.swatch("overall" if k == 0 else f"d{k - 1}")
            rows.append([swatch + shown, number(values[0]), number(values[-1]), low, f"{len(values):,}"])
    keys = [("overall", "all datasets")] + [
        (trace["key"], name(run.datasets[int(trace["key"][1:])]))
        for trace in figures["loss"]["traces"]
        if trace["key"] != "overall"
    ]
    return section(
        "loss",
        title,
        how_to_read(
            "loss",
            "the loss that the trainer logged, on the rows drawn; the mixture moves while it is measured, "
            "so a line that rises may only mean that harder rows were drawn.",
        ),
        markup.legend("loss", keys),
        markup.chart(
            "loss", "Line chart of the training loss over optimizer steps; numbers in the table below", "loss"
        ),
        markup.details("Numbers", table("Training loss", ["Series", "First", "Last", "Lowest", "Points"], rows)),
    )


def cost(run: Run) -> str:
    """Time, tokens and what balancing cost."""
    return section("cost", "Cost and environment", facts(costs(run)))


_TERMS = {"python": "Python", "machine": "Machine", "date": "Date"}  # what is no package


def costs(run: Run) -> list[tuple[str, str]]:
    """The terms of `cost` and their HTML values."""
    metrics = run.metrics
    balancing = metrics.balance_seconds if metrics and metrics.balance_seconds is not None else None
    if balancing is None:
        balancing = sum(line.seconds for line in run.lines)
    rows = [("Balancing", _duration(balancing)), ("Rows probed", f"{sum(line.probes for line in run.lines):,}")]
    if not metrics:
        return rows
    overhead, seconds, tokens = metrics.balance_overhead, metrics.train_seconds, metrics.tokens
    return [
        ("Training", _duration(seconds)),
        rows[0],
        ("Overhead of balancing", MISSING if overhead is None else f"{number(100 * overhead, 1)} %"),
        rows[1],
        ("Tokens", MISSING if tokens is None else f"{tokens:,}"),
        ("Tokens per second", number(tokens / seconds, 0) if tokens and seconds else MISSING),
        *((_TERMS.get(key, key), text(value)) for key, value in metrics.environment.items()),
    ]


def configuration(run: Run) -> str:
    """The configuration as written, folded."""
    if not run.config_text:
        return section("config", "Configuration", '<p class="empty">The run folder holds no config.yaml.</p>')
    listing = f'<pre tabindex="0" dir="ltr"><code>{text(run.config_text)}</code></pre>'
    return section("config", "Configuration", markup.details("config.yaml", listing))


def change(before: float | None, after: float | None) -> str:
    """A cell that says by how much a loss fell or rose."""
    return f"<td>{moved_by(before, after)}</td>"


def moved_by(before: float | None, after: float | None) -> str:
    """By how much a loss fell or rose, in percent."""
    if before is None or after is None or not np.isfinite([before, after]).all() or before <= 0:
        return MISSING
    percent = 100 * (after / before - 1)
    css, mark, said = ("better", "▼", "lower") if percent < 0 else ("worse", "▲", "higher")
    if percent == 0:
        css, mark, said = "same", "=", "equal"
    return f'<span class="{css}"><span role="img" aria-label="{said}">{mark}</span> {abs(percent):,.1f} %</span>'


def _missing(run: Run) -> str:
    notes = []
    if run.metrics is None:
        notes.append(
            "<strong>Unfinished:</strong> there is no metrics.json, so the run is still going on or was stopped before "
            "its end; held-out results are missing."
        )
    if run.training is None:
        notes.append("There is no trainer_state.json, so the training loss is missing.")
    elif run.training.source.startswith("checkpoint-"):
        notes.append(f"The training loss is the one saved with the latest checkpoint ({text(run.training.source)}).")
    return "".join(f'<p class="note" role="note">{note}</p>' for note in notes)


def _relative(relative_nll: float | None) -> str:
    if relative_nll is None:
        return ""
    return (
        "<p>Relative loss, the mean over datasets of after ÷ before: "
        f"<strong>{number(relative_nll)}</strong> (below 1: better than before training).</p>"
    )


def _score_cells(before: Score | None, after: Score | None) -> list[str]:
    nll = [score.nll if score else None for score in (before, after)]
    perplexity = [score.perplexity if score else None for score in (before, after)]
    known = after or before
    return [
        *map(number, nll),
        change(*nll),
        *(number(value, 2) for value in perplexity),
        f"{known.n:,}" if known else MISSING,
    ]


def _was_asked(metrics: Metrics) -> bool:
    return bool(metrics.right or metrics.right_before)


def _accuracy_cells(metrics: Metrics, dataset: str) -> list[str]:
    if not _was_asked(metrics):
        return []
    found = [metrics.right_before.get(dataset), metrics.right.get(dataset)]
    shown = [f"{100 * score.value:.1f} %" if score else MISSING for score in found]
    known = found[1] or found[0]
    return [*shown, f"{known.n:,}" if known else MISSING]


def _duration(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"
