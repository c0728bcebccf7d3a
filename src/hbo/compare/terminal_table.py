"""The table of a comparison for the terminal: what all datasets have in common; the page has each dataset."""

from __future__ import annotations

import math

from rich.text import Text

from hbo.compare.table import Metric, SeedMean, Table
from hbo.report.columns import Columns
from hbo.text import duration, visible

_SHOWN = {
    "macro NLL": "mean loss",
    "relative NLL": "relative to before",
    "worst NLL": "worst loss",
    "accuracy": "accuracy",
}


def comparison_table(table: Table) -> Columns:
    """A row for each method: means over its seeds; the best of a column is bold."""
    heads = [_SHOWN[column.name] for column in table.averages]
    found = Columns(["method", "seeds", *heads, "datasets won", "balancing", "time"], "Held-out rows after training")
    for label in table.labels:
        cells = [_entry(table.entries[label, column], column) for column in table.averages]
        overhead, seconds = (table.entries[label, column].mean for column in table.costs)
        found.add(
            visible(label), str(table.seeds[label]), *cells, str(table.wins[label]),
            "–" if math.isnan(overhead) else f"+{overhead:.1%}", "–" if math.isnan(seconds) else duration(seconds),
        )  # fmt: skip
    return found


def _entry(entry: SeedMean, column: Metric) -> Text:
    return Text(column.shown(entry), style="bold" if entry.rank == 1 else "")
