"""The part of the page about what the run was trained on: sizes, prior, groups, rows to look at."""

from __future__ import annotations

import math

from hbo.folder.mixture import Example, Group
from hbo.folder.run import Run
from hbo.report.markup import MISSING, how_to_read, name, number, section, swatch, table, text
from hbo.report.tables import Tables

_METRICS = {"ifd": "IFD (how little the instruction helps)", "perplexity": "perplexity", "loss": "loss"}


def mixture(run: Run, series: Tables) -> str:
    """Rows, prior and difficulty groups of each dataset, and example rows of each group."""
    sizes, total = run.sizes, sum(map(sum, run.sizes.values()))
    rows = []
    for k, dataset in enumerate(run.datasets):
        size = sum(sizes[dataset]) if dataset in sizes else None
        share = MISSING if not size or not total else f"{100 * size / total:.1f} %"
        shown = MISSING if size is None else f"{size:,}"
        rows.append([swatch(f"d{k}") + name(dataset), shown, share, number(series.p_SK[0, k]), _held(run, dataset)])
    head = ["Dataset", "Rows to train on", "Share of all rows", "Probability at the start", "Rows held out"]
    return section(
        "mixture",
        "The mixture",
        how_to_read("mixture", _explained(run, series)),
        table("What was trained on", head, rows),
        *(example_rows(run, dataset) for dataset in run.datasets),
    )


def example_rows(run: Run, dataset: str) -> str:
    """The groups of one dataset with their example rows, folded; nothing where the run tells of none."""
    groups = run.mixture.groups.get(dataset, ()) if run.mixture else ()
    if run.mixture is None or not any(group.examples for group in groups):
        return ""
    parts = "".join(_group(group, j, len(groups), run.mixture.metric) for j, group in enumerate(groups))
    return f'<details class="examples"><summary>Rows of {name(dataset)}, group by group</summary>{parts}</details>'


def _explained(run: Run, series: Tables) -> str:
    tau = run.temperature
    prior = f", here with τ = {tau}: 1 gives the shares of the sizes, a higher one makes them more alike" if tau else ""
    sentence = (
        f"the balancer starts from a prior that follows the sizes (or the weights given), q ∝ n^(1/τ){prior}. "
        f"The rows of a dataset are cut into {series.groups} group{'s' * (series.groups != 1)}"
    )
    if run.mixture is None or series.groups == 1:
        return sentence + "."
    metric = _METRICS.get(run.mixture.metric, run.mixture.metric)
    return f"{sentence} by their {metric} under the untuned model, easiest first; unfold a dataset to see its rows."


def _held(run: Run, dataset: str) -> str:
    if run.mixture and dataset in run.mixture.datasets:
        return f"{run.mixture.datasets[dataset].held_out:,}"
    score = run.metrics.before.get(dataset) if run.metrics else None
    return f"{score.n:,}" if score else MISSING


def _group(group: Group, j: int, count: int, metric: str) -> str:
    where = {0: ", the easiest", count - 1: ", the hardest"}.get(j, "") if count > 1 else ""
    spread = ""
    if math.isfinite(group.low) and math.isfinite(group.high):
        named = metric.upper() if metric == "ifd" else metric
        spread = f", {text(named)} {_score(group.low)} to {_score(group.high)}"
    title = f"<h3>{swatch(f'g{j}/{count}')}g{j + 1}{where}: {group.rows:,} rows{spread}</h3>"
    return title + "".join(map(_example, group.examples))


def _score(value: float) -> str:
    """Two decimals, or two digits of what would be 0.00: easy groups often lie below."""
    if abs(value) >= 0.1 or abs(value) < 1e-6:
        return number(value, 2)
    return number(value, 1 - math.floor(math.log10(abs(value))))


def _example(example: Example) -> str:
    score = "" if math.isnan(example.score) else f", difficulty {_score(example.score)}"
    return (
        f'<figure class="row"><figcaption>Row {example.row:,}{score}</figcaption><dl>'
        f'<div><dt>Prompt</dt><dd dir="auto">{text(example.prompt) or MISSING}</dd></div>'
        f'<div><dt>Response</dt><dd dir="auto">{text(example.response) or MISSING}</dd></div></dl></figure>'
    )
