"""The probabilities over training as figures for a paper, like Figure 2 of HBO's own: PNG and SVG.

The colours are those of the page, which the colour-blind can tell apart; dashes and markers tell them apart in print.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hbo.arrays import Floats
from hbo.atomic import write_file
from hbo.errors import ConfigError
from hbo.report.markup import series_look
from hbo.report.series import Shown, evenly, group_name, places, read_runs
from hbo.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# As page.css has them for light ground; the groups' run from easy to hard.
_COLOURS = ("#0077ad", "#d56100", "#009f73", "#cc79a7", "#8a4a00", "#5695e9", "#5b329f", "#222222")
_EASY, _MIDDLE, _HARD = ((47, 158, 104), (43, 111, 146), (68, 1, 84))
_DASHES = ("-", "--", ":", "-.")
_MARKERS = "osD^vPX*"
_WIDTH, _PANEL = 6.75, 2.1  # inches: both columns of a page, and a row of panels
_COLUMNS, _LONGEST, _MARKED = 4, 28, 30
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "legend.fontsize": 9,
    "axes.grid": True,
    "grid.color": "#dde2e8",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # text stays text: to be searched, edited, and read aloud
    "svg.hashsalt": "hbo",
    "text.parse_math": False,  # a dataset may be called $x$
}


@dataclass(frozen=True)
class _Panel:
    """A chart: by name the line of each choice over the ledger's lines, and how it looks."""

    title: str
    shown: Shown
    lines: dict[str, tuple[Floats, dict[str, Any]]]
    even: float | None = None


def write_figures(folders: Sequence[Path], output: Path) -> list[Path]:
    """The files written to `output`: the datasets' probabilities, a panel for each run, and the groups' of each run.

    Raises:
        ConfigError: matplotlib is missing, or a run is given twice.
        DataError: A folder isn't a run's, or a file can't be written.
    """
    try:
        import matplotlib
    except ImportError:
        raise ConfigError("--figures needs matplotlib, which is missing; run: pip install 'hbo[figures]'") from None

    runs = read_runs(folders)
    with matplotlib.rc_context(_STYLE):
        drawn = {"global-probabilities": _drawn(_global(runs), from_zero=True)}
        for shown, end in zip(runs, _file_ends(runs), strict=True):
            drawn[f"local-probabilities{end}"] = _drawn(_local(shown), from_zero=False)
        return [
            write_file(output / f"{name}.{kind}", data, "the figure", "--figures")
            for name, figure in drawn.items()
            for kind, data in _saved(figure).items()
        ]


def _global(runs: Sequence[Shown]) -> list[_Panel]:
    colours, panels = places(runs), []
    for shown in runs:
        lines = {}
        for k, name in enumerate(shown.run.datasets):
            colour, dash, symbol = series_look(colours[name])
            style = {"color": _COLOURS[colour], "linestyle": _DASHES[dash], "marker": _MARKERS[symbol]}
            lines[name] = (shown.series.p_SK[:, k], style)
        panels.append(_Panel(shown.label if len(runs) > 1 else "", shown, lines))
    return panels


def _local(shown: Shown) -> list[_Panel]:
    panels = []
    for k, name in enumerate(shown.run.datasets):
        levels = len(shown.run.lines[0].q_KL[k])
        lines = {}
        for j in range(levels):
            style = {"color": _shade(j, levels), "marker": _MARKERS[j % len(_MARKERS)]}
            lines[group_name(j, levels)] = (shown.series.q_SKL[:, k, j], style)
        panels.append(_Panel(name, shown, lines, 1 / levels))
    return panels


def _drawn(panels: Sequence[_Panel], *, from_zero: bool) -> Figure:
    from matplotlib.figure import Figure

    columns = min(len(panels), _COLUMNS if len(panels) % 3 or len(panels) > 6 else 3)
    rows = -(-len(panels) // columns)
    size = (_WIDTH if columns > 1 else _WIDTH * 0.6, _PANEL * (1.2 if columns == 1 else 1) * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    entries: dict[str, Any] = {}
    for place, axis in enumerate(axes.flat):
        if place >= len(panels):
            axis.set_visible(False)
            continue
        entries |= _panel(axis, panels[place])
        last_in_column = place + columns >= len(panels)
        axis.tick_params(labelbottom=last_in_column)
        axis.set_xlabel("optimizer step" if last_in_column else "")
        axis.set_ylabel("sampling probability" if place % columns == 0 else "")
    if from_zero:
        axes[0, 0].set_ylim(bottom=0)
    _legend(figure, entries, 4 if columns == 1 else 6)
    return figure


def _panel(axis: Axes, panel: _Panel) -> dict[str, Any]:
    axis.set_title(_plain(panel.title))
    if panel.even is not None:
        axis.axhline(panel.even, color="#5b6675", linestyle=":", linewidth=0.8)
    steps = panel.shown.series.step_S
    # The last probabilities hold to the end of the run, which is no update and has no marker.
    held = [panel.shown.run.steps] if steps[-1] < panel.shown.run.steps else []
    x, entries = np.array([*steps, *held], dtype=float), {}
    for name, (values_S, style) in panel.lines.items():
        style |= {} if len(x) <= _MARKED else {"marker": ""}
        y = np.append(values_S, values_S[-1:])[: len(x)]
        (entries[name],) = axis.plot(
            x, y, **style, markersize=3.5, linewidth=1.3, drawstyle="steps-post", clip_on=False,
            markevery=list(range(len(steps))),
        )  # fmt: skip
    return entries


def _legend(figure: Figure, entries: dict[str, Any], columns: int) -> None:
    names = list(entries)
    shown = [names[i] for i in evenly(len(names), 20)]
    handles = [entries[name] for name in shown]
    # Set afterwards, since a label that begins with an underscore would be left out.
    legend = figure.legend(
        handles, ["-"] * len(shown), loc="outside upper center", ncols=columns, frameon=False, handlelength=1.6
    )
    for text, name in zip(legend.get_texts(), shown, strict=True):
        text.set_text(_plain(name))


def _saved(figure: Figure) -> dict[str, bytes]:
    found = {}
    with warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box in the PNG; the SVG has the letter itself.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once for both
        for kind in ("png", "svg"):
            held = io.BytesIO()
            figure.savefig(held, format=kind, dpi=300, metadata={"Date": None} if kind == "svg" else None)
            found[kind] = held.getvalue()
    return found


def _shade(j: int, levels: int) -> tuple[float, ...]:
    at = 2 * j / (levels - 1) if levels > 1 else 2.0
    low, high, share = (_EASY, _MIDDLE, at) if at < 1 else (_MIDDLE, _HARD, at - 1)
    return tuple((a + (b - a) * share) / 255 for a, b in zip(low, high, strict=True))


def _plain(name: str) -> str:
    shown = one_line(name)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def _file_ends(runs: Sequence[Shown]) -> list[str]:
    """What the runs' own files end with: nothing for a single run, else its label as far as file names take it."""
    if len(runs) == 1:
        return [""]
    found: list[str] = []
    for number, shown in enumerate(runs, 1):
        end = "-" + re.sub(r"[^\w.+-]+", "-", shown.label)[:60]
        found.append(f"{end}-{number}" if end in found else end)
    return found
