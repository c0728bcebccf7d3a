"""The table of a comparison as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from hbo.compare.headroom import WON, HeadroomPart
from hbo.compare.table import Contest, Metric, SeedMean, Table
from hbo.compare.verdict import verdict

READING = (
    "Mean ± standard error over the seeds of a row. NLL is the mean negative log-likelihood of a dataset's held-out "
    "responses, per token, in nats. Macro is its mean over datasets, relative the mean of NLL over NLL before "
    "training, worst that of the dataset where it is highest; accuracy is the mean over the datasets that have "
    "one. The averages belong together: which method wins often depends on the average. The best of a column is bold, "
    "the second underlined; wins counts the datasets whose NLL is lowest. Only rows with the most seeds are ranked."
)


def markdown(table: Table | None, headroom: HeadroomPart | None = None) -> str:
    """The whole of comparison.md."""
    searched = _headroom(headroom) if headroom else []
    if table is None:
        return "\n".join([*searched, "No run is finished yet."]) + "\n"
    answer = [] if headroom and not table.judged else [_escaped(verdict(table)), ""]
    parts = [*searched, *answer, READING, "", *_grid(table, [*table.losses, *table.averages, *table.costs], wins=True)]
    for note in table.notes:
        parts += ["", _escaped(note)]
    if table.accuracies:
        parts += ["", "Accuracy:", "", *_grid(table, table.accuracies)]
    if table.benchmarks:
        parts += ["", "Accuracy on benchmarks (hbo eval):", "", *_grid(table, table.benchmarks)]
    for contest in table.contests:
        parts += ["", *_differences(contest)]
    return "\n".join(parts) + "\n"


def _headroom(found: HeadroomPart) -> list[str]:
    lines = [WON, "", _escaped(" ".join(found.sentences)), ""]
    for caption, head, rows in found.tables:
        lines += [f"{caption}:", "", *_table(head, rows), ""]
    return lines


def _grid(table: Table, columns: Sequence[Metric], *, wins: bool = False) -> list[str]:
    head, rows = table.grid(columns, _marked, wins=wins)
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(map(_escaped, head)) + " |", "|---" * len(head) + "|"]
    return lines + ["| " + " | ".join([_escaped(label), *cells]) + " |" for label, *cells in rows]


def _marked(entry: SeedMean, column: Metric) -> str:
    shown = column.shown(entry)
    return {1: f"**{shown}**", 2: f"<u>{shown}</u>"}.get(entry.rank, shown)


def _differences(contest: Contest) -> list[str]:
    column = contest.column
    lines = [f"{column.name} ({column.reading}), paired over seeds against {_escaped(contest.best)}:", ""]
    scale, digits = column.scale, column.digits + 1
    for difference in contest.differences:
        d = difference.found
        mean, low, high = (f"{scale * x:+.{digits}f}" for x in (d.mean, d.low, d.high))
        numbers = f"{mean} [{low}, {high}], p = {d.p:.3f}, {d.pairs} seeds: " if d.pairs > 1 else ""
        lines.append(f"- {_escaped(difference.label)}: {numbers}{d.verdict}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
