"""Run folders → one file of HTML that loads nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template

from hbo.atomic import write_file
from hbo.errors import ConfigError
from hbo.folder.paths import REPORT
from hbo.folder.run import Run, read_run
from hbo.report import balance_sections, results_sections, side_by_side, side_tables
from hbo.report.drawn_section import drawn
from hbo.report.evaluation import evaluation
from hbo.report.figures import Figure, figures
from hbo.report.markup import text
from hbo.report.mixture_section import mixture
from hbo.report.runs import Shown, read_runs
from hbo.report.tables import tables

_LINKS = (
    ("global-p", "Datasets"),
    ("local-p", "Groups"),
    ("rewards", "Rewards"),
    ("held-out", "Held-out"),
    ("loss", "Loss"),
    ("mixture", "Mixture"),
    ("drawn", "Rows drawn"),
    ("cost", "Cost"),
    ("config", "Configuration"),
)


def write_report(folder: Path, output: Path | None = None) -> Path:
    """The page that was written: `output`, or `report.html` in the run's folder.

    Raises:
        DataError: The folder isn't a run's, a file of it is broken, or the page can't be written.
    """
    return _write(render(read_run(folder)), output or folder / REPORT)


def write_reports(folders: Sequence[Path], output: Path | None = None) -> Path:
    """The page that was written, of one run or of several side by side.

    Raises:
        ConfigError: A run is given twice, or several runs have no `output`.
        DataError: As `write_report`.
    """
    if len(folders) == 1:
        return write_report(folders[0], output)
    if output is None:
        raise ConfigError(
            "several runs share one page, which belongs in no run's folder; name its file with --output report.html"
        )
    return _write(render_side_by_side(read_runs(folders)), output)


def render(run: Run) -> str:
    """The whole page of a run as HTML.

    Raises:
        Nothing.
    """
    series = tables(run.lines, run.drawn_KL)
    drawings = figures(run, series)
    benchmarks = run.evaluation if run.evaluation and run.evaluation.tasks else None
    links = [*_LINKS[:4], *([("evaluation", "Benchmarks")] if benchmarks else []), *_LINKS[4:]]
    sections = [
        results_sections.header(run, series),
        balance_sections.global_policy(run, series, drawings),
        balance_sections.local_policy(run, series, drawings),
        balance_sections.rewards(run, series, drawings),
        results_sections.held_out(run),
        *([evaluation(benchmarks)] if benchmarks else []),
        results_sections.loss(run, drawings),
        mixture(run, series),
        drawn(run, series),
        results_sections.cost(run),
        results_sections.configuration(run),
    ]
    return _page(run.folder.resolve().name, links, sections, drawings)


def render_side_by_side(runs: Sequence[Shown]) -> str:
    """The whole page of several runs as HTML.

    Raises:
        Nothing.
    """
    found = side_by_side.drawings(runs)
    sections = [
        side_tables.header(runs),
        side_by_side.legend(runs, found),
        *side_by_side.policies(runs, found),
        side_by_side.rewards(runs, found),
        side_tables.held_out(runs),
        side_by_side.loss(runs, found),
        side_tables.mixture(runs),
        side_tables.drawn(runs),
        side_tables.cost(runs),
        side_tables.configuration(runs),
    ]
    return _page(f"{len(runs)} runs", [("glance", "At a glance"), *_LINKS], sections, found)


def _page(title: str, links: Sequence[tuple[str, str]], sections: Sequence[str], drawings: dict[str, Figure]) -> str:
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    plotly, script = get_plotlyjs(), _file("page.js")
    return Template(_file("page.html")).substitute(
        policy=_policy(plotly, script),
        title=text(f"{title}: hbo report"),
        style=_file("page.css"),
        links="".join(f'<li><a href="#{anchor}">{shown}</a></li>' for anchor, shown in links),
        sections="".join(sections),
        figures=payload(drawings),
        plotly=plotly,
        script=script,
    )


def _write(page: str, target: Path) -> Path:
    return write_file(target, page.encode("utf-8"), "the report", "--output")


def payload(drawings: dict[str, Figure]) -> str:
    """The figures as JSON that nothing inside can end the script element of.

    Example:
        >>> payload({"a": {"name": "</script>"}})
        '{"a":{"name":"\\\\u003c/script\\\\u003e"}}'
    """
    plain = json.dumps(drawings, allow_nan=False, separators=(",", ":"))
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(*scripts: str) -> str:
    # Only these very scripts may run and nothing may be fetched, whatever a name manages to smuggle in.
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _file(name: str) -> str:
    return resources.files("hbo.report").joinpath(name).read_text(encoding="utf-8")
