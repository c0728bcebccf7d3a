"""Formulas ($…$ and $$…$$, as repository pages take them) → MathML, which browsers draw without a script."""

from __future__ import annotations

import html
import re
from typing import Any

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>', re.DOTALL)

__all__ = ["drawn", "on_page_content"]


def drawn(page: str) -> str:
    """The page with a MathML element in place of every formula."""
    from latex2mathml.converter import convert

    def one(match: re.Match[str]) -> str:
        is_block = match[1] == "div"
        formula = convert(html.unescape(match[2]).strip(), display="block" if is_block else "inline")
        return f'<{match[1]} class="formula">{formula}</{match[1]}>'

    return FORMULA.sub(one, page)


def on_page_content(html: str, **_: Any) -> str:
    """mkdocs hands over the HTML of a page."""
    return drawn(html)
