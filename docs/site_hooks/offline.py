"""Pages that fetch something from another host are warned of, and warnings are errors: the site needs no network."""

from __future__ import annotations

import logging
import re
from typing import Any

FETCHED = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)="((?:https?:)?//[^"]+)"')

__all__ = ["fetched", "on_post_page"]


def fetched(html: str) -> list[str]:
    """Addresses that a browser would load with the page; links that a reader may follow are none of them."""
    return FETCHED.findall(html)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """mkdocs hands over a finished page."""
    for address in fetched(output):
        logging.getLogger("mkdocs.hooks.offline").warning("%s fetches %s", page.file.src_uri, address)
    return output
