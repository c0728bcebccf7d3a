"""How pages are made: Jinja templates that escape all they are given, and the small pieces they are made of.

What is HTML already is a `Markup`; every other string is text, whatever a user put into it.
"""

from __future__ import annotations

import base64
import hashlib
import math
import unicodedata
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hbo.text import duration

MISSING = Markup('<span class="missing" title="not measured">–</span>')

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


class Grid(NamedTuple):
    """A table; the first cell of a row names it, and a cell that is a whole `<td>` brings its own look."""

    caption: str
    head: Sequence[str]
    rows: list[list[str]]
    css: str = ""


def markup(pattern: str, *values: object) -> Markup:
    """`pattern` as HTML, with each `{}` filled with a value as text, or as it is where it is HTML already.

    Example:
        >>> markup("<b>{}</b>", "<i>")
        Markup('<b>&lt;i&gt;</b>')
    """
    return Markup(pattern).format(*map(printable, values))


def printable(value: Any) -> Any:
    """A text without the characters that no page may hold; HTML and what is no text stay as they are."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "\ufffd" for c in value)


def series_look(k: int) -> tuple[int, int, int]:
    """The colour, dash and symbol of dataset `k`; alike for no two of the first 64.

    Example:
        >>> series_look(0), series_look(8)
        ((0, 0, 0), (0, 1, 1))
    """
    return k % COLOURS, k // COLOURS % len(DASHES), (k + k // COLOURS) % len(SYMBOLS)


def name(dataset: str) -> Markup:
    """A dataset's name: isolated from the text around it (right-to-left), cut short by the style sheet."""
    shown = dataset if len(dataset) <= 120 else dataset[:119] + "…"
    return markup('<bdi class="name" title="{}">{}</bdi>', dataset, shown or "(no name)")


def label(dataset: str, longest: int = 28) -> str:
    """A dataset's name for a chart, whose script shows it as text: one line, short.

    Example:
        >>> label("a <b>") == "\u2068a <b>\u2069"
        True
    """
    # Direction marks would leave the isolate that keeps a right-to-left name from turning the tooltip round.
    plain = " ".join("".join(c for c in printable(dataset) if unicodedata.category(c) != "Cf" or c == "\u200d").split())
    short = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    return f"\u2068{short}\u2069"


def number(value: float | None, digits: int = 3) -> str:
    """A value with `digits` decimals, in powers of ten when it is very large, a dash when there is none."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    shown = f"{value:,.{digits}f}" if abs(value) < 1e6 else f"{value:.2e}"
    return shown.replace("-", "−")


def whole_number(value: int | None) -> str:
    """A whole number, a dash when there is none."""
    return MISSING if value is None else f"{value:,}"


def in_percent(share: float | None) -> str:
    """A share in percent, a dash when there is none; what would be 0.0 has two digits that count.

    Example:
        >>> in_percent(0.1234), in_percent(0.00012)
        ('12.3%', '0.012%')
    """
    if share is None or math.isnan(share):
        return MISSING
    if 0 < abs(share) < 0.001:
        return f"{number(100 * share, min(9, 1 - math.floor(math.log10(abs(100 * share)))))}%"
    return f"{number(100 * share, 1)}%"


def time_span(seconds: float | None) -> str:
    """How long something took, to a tenth below a minute; a dash when there is no such time."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return MISSING
    return f"{seconds:.1f} s" if seconds < 60 else duration(round(seconds))


def with_error(value: float, error: float, digits: int = 3) -> str:
    """`value ± error`, without the error where it wasn't measured."""
    if math.isnan(error):
        return number(value, digits)
    return markup('{} <small class="se">± {}</small>', number(value, digits), number(error, digits))


def group_tint(j: int, groups: int) -> str:
    """The colour of group `j` in the style sheet's words: from the scheme's easy colour over the middle to the hard.

    Example:
        >>> group_tint(0, 3), group_tint(3, 4)
        ('var(--easy)', 'var(--hard)')
    """
    stops = ("--easy", "--middle", "--hard")
    at = 2 * j / (groups - 1) if groups > 1 else 2.0
    first = min(1, int(at))
    share = round(100 * (at - first))
    if share in (0, 100):
        return f"var({stops[first + share // 100]})"
    return f"color-mix(in srgb, var({stops[first + 1]}) {share}%, var({stops[first]}))"


def swatch(key: str) -> Markup:
    """The line and marker of the series `key`, as the charts draw them: `d3` a dataset, `g0/4` a group, or other."""
    colour, dash, symbol, tint = "overall", "", "", ""
    if key.startswith("d"):
        index, dash_index, symbol_index = series_look(int(key[1:]))
        colour, dash, symbol = f"c{index}", _DASH_ARRAYS[dash_index], _SYMBOL_PATHS[symbol_index]
    elif key.startswith("g"):
        j, groups = map(int, key[1:].split("/"))
        colour, symbol, tint = "group", _SYMBOL_PATHS[j % len(SYMBOLS)], f"color: {group_tint(j, groups)}"
    elif key == "target":
        return markup(
            '<svg class="swatch overall" viewBox="0 0 26 12" aria-hidden="true"><path class="open" d="{}"/></svg>',
            _SYMBOL_PATHS[0],
        )
    return markup(
        '<svg class="swatch {}" data-swatch="{}" style="{}" viewBox="0 0 26 12" aria-hidden="true">'
        '<path d="M0 6h26" stroke-dasharray="{}"/><path class="mark" d="{}"/></svg>',
        *(colour, key, tint, dash, symbol),
    )


def asset(file: str) -> Markup:
    """A style sheet or script of the package, such as `report/page.css`, as it stands in a page."""
    return Markup(resources.files("hbo").joinpath(file).read_text(encoding="utf-8"))


def allowed(*contents: str) -> str:
    """The sources in a content security policy that allow these very scripts or styles and no other."""
    hashes = (base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{digest}'" for digest in hashes)


def rendered(template: str, **facts: Any) -> Markup:
    """The template of the package, such as `report/templates/loss.html`, filled with `facts`."""
    return Markup(_TEMPLATES.get_template(template).render(facts))


_TEMPLATES = Environment(
    loader=PackageLoader("hbo", ""),
    autoescape=True,
    finalize=printable,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals |= {"name": name, "number": number, "swatch": swatch}
