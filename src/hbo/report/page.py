"""A run's folder → `report.html`: one file that loads nothing from anywhere."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from importlib import resources
from pathlib import Path
from string import Template

from hbo.errors import DataError
from hbo.report import balance_sections, results_sections
from hbo.report.evaluation import evaluation
from hbo.report.figures import Figure, figures
from hbo.report.folder import Run, read_run
from hbo.report.markup import text
from hbo.report.tables import tables

_LINKS = (
    ("held-out", "Held-out"),
    ("global-p", "Datasets"),
    ("local-p", "Groups"),
    ("rewards", "Rewards"),
    ("loss", "Loss"),
    ("drawn", "Rows drawn"),
    ("cost", "Cost"),
    ("config", "Configuration"),
)


def write_report(folder: Path, output: Path | None = None) -> Path:
    """The page that was written: `output`, or `report.html` in the run's folder.

    Raises:
        DataError: The folder isn't a run's, a file of it is broken, or the page can't be written.
    """
    target = output or folder / "report.html"
    page = render(read_run(folder))
    # Written beside its place and moved there, so that a reader never sees half a page.
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(page.encode("utf-8"))
        part.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise DataError(f"{target}: the report can't be written ({error.strerror}); give another --output") from None
    return target


def render(run: Run) -> str:
    """The whole page as HTML.

    Raises:
        Nothing.
    """
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    series = tables(run.lines)
    drawings = figures(run, series)
    plotly, script = get_plotlyjs(), _file("page.js")
    benchmarks = run.evaluation if run.evaluation and run.evaluation.tasks else None
    links = [*_LINKS[:1], *([("evaluation", "Benchmarks")] if benchmarks else []), *_LINKS[1:]]
    sections = [
        results_sections.held_out(run),
        *([evaluation(benchmarks)] if benchmarks else []),
        balance_sections.global_policy(run, series, drawings),
        balance_sections.local_policy(run, series),
        balance_sections.rewards(run, series, drawings),
        results_sections.loss(run, drawings),
        balance_sections.drawn(run, series),
        results_sections.cost(run),
        results_sections.configuration(run),
    ]
    return Template(_file("page.html")).substitute(
        policy=_policy(plotly, script),
        title=text(f"{run.folder.resolve().name}: hbo report"),
        style=_file("page.css"),
        links="".join(f'<li><a href="#{anchor}">{shown}</a></li>' for anchor, shown in links),
        header=results_sections.header(run, series),
        sections="".join(sections),
        figures=payload(drawings),
        plotly=plotly,
        script=script,
    )


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
