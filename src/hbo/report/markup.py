"""Small pieces of HTML; whatever a user named passes through `text`, `name` or `label`."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Callable, Sequence

MISSING = '<span class="missing" title="not measured">–</span>'

# A dataset keeps its look in every chart: 8 colours (see page.css), then other dashes, then other symbols.
COLOURS = 8
DASHES = ("solid", "dash", "dot", "dashdot")
_DASH_ARRAYS = ("", "6 3", "2 2.5", "6 2.5 1.5 2.5")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
_SYMBOL_PATHS = (
    "M9 6a4 4 0 1 1 8 0a4 4 0 1 1-8 0z",
    "M9.5 2.5h7v7h-7z",
    "M13 1l5 5-5 5-5-5z",
    "M13 1.5l4.5 8h-9z",
    "M13 10.5l4.5-8h-9z",
    "M11.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "M10 1.5l3 3 3-3 1.5 1.5-3 3 3 3-1.5 1.5-3-3-3 3-1.5-1.5 3-3-3-3z",
    "M13 .5l1.6 3.6 3.9.4-2.9 2.6.8 3.9-3.4-2-3.4 2 .8-3.9-2.9-2.6 3.9-.4z",
)


def look(k: int) -> tuple[int, int, int]:
    """The colour, dash and symbol of dataset `k`; alike for no two of the first 64.

    Example:
        >>> look(0), look(8)
        ((0, 0, 0), (0, 1, 1))
    """
    return k % COLOURS, k // COLOURS % len(DASHES), (k + k // COLOURS) % len(SYMBOLS)


def text(value: object) -> str:
    """`value` as HTML text, also safe inside a quoted attribute.

    Example:
        >>> text('<b>"')
        '&lt;b&gt;&quot;'
    """
    return html.escape(_printable(str(value)), quote=True)


def name(dataset: str) -> str:
    """A dataset's name: isolated from the text around it (right-to-left), cut short by the style sheet."""
    shown = dataset if len(dataset) <= 120 else dataset[:119] + "…"
    return f'<bdi class="name" title="{text(dataset)}">{text(shown) or "(no name)"}</bdi>'


def label(dataset: str, longest: int = 28) -> str:
    """A dataset's name for a chart, whose labels understand some HTML: one line, short, escaped.

    Example:
        >>> label("a<b>") == "\u2068a&lt;b&gt;\u2069"
        True
    """
    # Direction marks would leave the isolate that keeps a right-to-left name from turning the tooltip round.
    plain = " ".join(
        "".join(c for c in _printable(dataset) if unicodedata.category(c) != "Cf" or c == "\u200d").split()
    )
    short = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    return f"\u2068{html.escape(short, quote=False)}\u2069"


def number(value: float | None, digits: int = 3) -> str:
    """A value with `digits` decimals, in powers of ten when it is very large, a dash when there is none."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    shown = f"{value:,.{digits}f}" if abs(value) < 1e6 else f"{value:.2e}"
    return shown.replace("-", "−")


def with_error(value: float, error: float, digits: int = 3) -> str:
    """`value ± error`, without the error where it wasn't measured."""
    if math.isnan(error):
        return number(value, digits)
    return f'{number(value, digits)} <small class="se">± {number(error, digits)}</small>'


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], css: str = "") -> str:
    """A table of HTML cells, scrolling inside itself when it is wide; each row's first cell names the row."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f'<tr><th scope="row">{first}</th>{"".join(map(_cell, rest))}</tr>' for first, *rest in rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(caption)}">'
        f'<table class="{css}"><caption>{text(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Terms and their HTML values as a description list."""
    return "<dl>" + "".join(f"<div><dt>{text(term)}</dt><dd>{value}</dd></div>" for term, value in rows) + "</dl>"


def details(title: str, inner: str) -> str:
    """Something to unfold."""
    return f"<details><summary>{text(title)}</summary>{inner}</details>"


def section(anchor: str, title: str, *parts: str) -> str:
    """A titled section that a link can point at."""
    return (
        f'<section id="{anchor}" aria-labelledby="{anchor}-title"><h2 id="{anchor}-title">{text(title)}</h2>'
        f"{''.join(parts)}</section>"
    )


def how_to_read(anchor: str, sentence: str) -> str:
    """The line that explains the chart `anchor`."""
    return f'<p class="how" id="{anchor}-how"><strong>How to read this:</strong> {text(sentence)}</p>'


def chart(anchor: str, what: str, described_by: str, caption: str = "", small: bool = False) -> str:
    """The place where the page's script draws figure `anchor`; `what` is what a screen reader says."""
    return (
        f"<figure>{f'<figcaption>{caption}</figcaption>' if caption else ''}"
        f'<div class="chart{" small" if small else ""}" data-figure="{anchor}" role="img" '
        f'aria-label="{text(what)}" aria-describedby="{described_by}-how"></div></figure>'
    )


def legend(charts: str, keys: Sequence[tuple[str, str]], pressed: Callable[[str], bool] = bool) -> str:
    """Buttons that hide and show a series in every figure whose id starts with `charts`; pairs of key and HTML.

    Those that `pressed` refuses start hidden.
    """
    items = "".join(
        f'<li><button type="button" aria-pressed="{"true" if pressed(key) else "false"}" data-key="{key}">'
        f"{swatch(key)}{shown}</button></li>"
        for key, shown in keys
    )
    return f'<ul class="legend" aria-label="Series of the chart: press to hide" data-charts="{charts}">{items}</ul>'


def swatch(key: str) -> str:
    """The line and marker of the series `key`, as the charts draw them: `d3` a dataset, `g0/4` a group, or other."""
    colour, dash, symbol = "overall", "", ""
    if key.startswith("d"):
        index, dash_index, symbol_index = look(int(key[1:]))
        colour, dash, symbol = f"c{index}", _DASH_ARRAYS[dash_index], _SYMBOL_PATHS[symbol_index]
    elif key.startswith("g"):
        colour, symbol = "group", _SYMBOL_PATHS[int(key[1:].split("/")[0]) % len(SYMBOLS)]
    elif key == "target":
        return (
            '<svg class="swatch overall" viewBox="0 0 26 12" aria-hidden="true">'
            f'<path class="open" d="{_SYMBOL_PATHS[0]}"/></svg>'
        )
    return (
        f'<svg class="swatch {colour}" data-swatch="{key}" viewBox="0 0 26 12" aria-hidden="true">'
        f'<path d="M0 6h26" stroke-dasharray="{dash}"/><path class="mark" d="{symbol}"/></svg>'
    )


def _cell(cell: str) -> str:
    # A cell that brings its own tag (a shade, a class) stays as it is.
    return cell if cell.startswith("<td") else f"<td>{cell}</td>"


def _printable(raw: str) -> str:
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "\ufffd" for c in raw)
