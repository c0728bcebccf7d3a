"""The frame around a report that refreshes itself."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from string import Template

from hbo.report.markup import text


def _file(name: str) -> str:
    return resources.files("hbo.watch").joinpath(name).read_text(encoding="utf-8")


def _hashed(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


_SCRIPT, _STYLE = _file("shell.js"), _file("shell.css")
POLICY = (
    f"default-src 'none'; script-src {_hashed(_SCRIPT)}; style-src {_hashed(_STYLE)}; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def shell(name: str, interval: float) -> str:
    """The frame as HTML.

    Args:
        name: The run's.
        interval: Seconds between two looks.

    Raises:
        Nothing.
    """
    return Template(_file("shell.html")).substitute(
        title=text(name), style=_STYLE, script=_SCRIPT, interval=f"{1000 * interval:.0f}"
    )
