"""Run folders → one file of HTML that loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from markupsafe import Markup

from hbo.atomic import write_file
from hbo.errors import ConfigError
from hbo.folder.paths import REPORT
from hbo.folder.run import Run
from hbo.report.balance_sections import TARGETS, blocks, legend_keys
from hbo.report.figures import Figure, drawings
from hbo.report.markup import allowed, asset, rendered
from hbo.report.sections import SECTIONS
from hbo.report.series import Shown, read_runs, told_apart


def write_report(folder: Path, output: Path | None = None) -> Path:
    """The page that was written: `output`, or `report.html` in the run's folder.

    Raises:
        DataError: The folder isn't a run's, a file of it is broken, or the page can't be written.
    """
    return write_reports([folder], output)


def write_reports(folders: Sequence[Path], output: Path | None = None) -> Path:
    """The page that was written, of one run or of several side by side.

    Raises:
        ConfigError: A run is given twice, or several runs have no `output`.
        DataError: As `write_report`.
    """
    if len(folders) > 1 and output is None:
        raise ConfigError("a page of several runs belongs in no run's folder; name its file with --output report.html")
    page = _page(read_runs(folders))
    return write_file(output or folders[0] / REPORT, page.encode("utf-8"), "the report", "--output")


def render(*runs: Run) -> str:
    """The whole page of one run, or of several side by side, as HTML."""
    return _page(told_apart(runs))


def _page(runs: Sequence[Shown]) -> str:
    figures = drawings(runs)
    sections = [section for section in SECTIONS if section.shows(runs)]
    shared = {
        "runs": runs,
        "one": len(runs) == 1,
        "figures": figures,
        "legend_keys": partial(legend_keys, runs, figures),
        "blocks": partial(blocks, runs, figures),
        "hides_targets": any(len(shown.run.lines) > TARGETS for shown in runs),
    }
    script = asset("report/templates/charts.js") + asset("report/templates/page.js")
    return rendered(
        "report/templates/page.html",
        title=runs[0].label if len(runs) == 1 else f"{len(runs)} runs",
        allowed=allowed(script),
        style=asset("report/templates/page.css"),
        sections=sections,
        parts=[
            rendered(f"report/templates/{section.anchor}.html", **shared, **section.facts(runs, figures))
            for section in sections
        ],
        figures=Markup(payload(figures)),
        script=script,
    )


def payload(drawn: dict[str, Figure]) -> str:
    r"""The figures as JSON that nothing inside can end the script element of.

    Most series have the same steps: a trace names them by their place in a list.

    Example:
        >>> payload({"a": {"traces": [{"name": "</script>", "x": [0, 1]}]}})
        '{"steps":[[0,1]],"figures":{"a":{"traces":[{"name":"\\u003c/script\\u003e","x":0}]}}}'
    """
    steps: dict[tuple[int, ...], int] = {}
    figures = {
        key: figure | {"traces": [t | {"x": steps.setdefault(tuple(t["x"]), len(steps))} for t in figure["traces"]]}
        for key, figure in drawn.items()
    }
    shared = {"steps": list(steps), "figures": figures}
    plain = json.dumps(shared, allow_nan=False, separators=(",", ":"))
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
