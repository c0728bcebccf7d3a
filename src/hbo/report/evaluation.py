"""What the page and the terminal show of the results on benchmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from hbo.errors import visible
from hbo.folder.benchmarks import Evaluation, Measure
from hbo.report.markup import how_to_read, name, section, table, text, with_error

SHOWN = {"mu_ml": "μ_ML", "mu_mt": "μ_MT"}
"""The paper's names of its means."""


def evaluation(found: Evaluation) -> str:
    """The page's section."""
    languages = _languages(found)
    head = ["Task", "Accuracy", *map(text, languages)]
    rows = []
    for task, measure in found.tasks.items():
        per_language = found.languages[task]
        cells = [_cell(per_language[language]) if language in per_language else "" for language in languages]
        rows.append([name(task), _cell(measure), *cells])
    for key, mean in found.averages.items():
        rows.append([f"<strong>{text(SHOWN.get(key, key))}</strong>", _cell(mean), *[""] * len(languages)])
    return section(
        "evaluation",
        "Benchmarks",
        how_to_read(
            "evaluation",
            "accuracy in percent ± standard error over rows, by lm-eval. A task's is the mean over its languages, "
            "μ_ML and μ_MT are means over the tasks of the paper's two tables. "
            f"Settings: {found.settings}.",
        ),
        table("Accuracy on benchmarks", head, rows),
    )


def evaluation_table(found: Evaluation) -> Table:
    """What the terminal shows.

    Raises:
        Nothing.
    """
    shown = Table(title="Accuracy in percent", title_justify="left")
    shown.add_column("task", no_wrap=True)
    for column in ("accuracy", "± error", "languages"):
        shown.add_column(column, justify="left" if column == "languages" else "right")
    for task, measure in found.tasks.items():
        per_language = (f"{each} {100 * m.accuracy:.1f}" for each, m in found.languages[task].items())
        shown.add_row(visible(task), *_percent(measure), ", ".join(per_language))
    if found.averages:
        shown.add_section()
    for key, mean in found.averages.items():
        shown.add_row(SHOWN.get(key, visible(key)), *_percent(mean), "")
    return shown


def _languages(found: Evaluation) -> Sequence[str]:
    return list(dict.fromkeys(language for rows in found.languages.values() if len(rows) > 1 for language in rows))


def _cell(measure: Measure) -> str:
    return with_error(100 * measure.accuracy, 100 * measure.error, 1)


def _percent(measure: Measure) -> tuple[str, str]:
    return f"{100 * measure.accuracy:.2f}", "–" if math.isnan(measure.error) else f"{100 * measure.error:.2f}"
