"""The page of the documentation that says how each architecture is measured, out of the benchmark's records."""

from __future__ import annotations

from typing import Any


def page(found: list[dict[str, Any]], skipped: dict[str, str]) -> str:
    """The page as Markdown."""
    raise NotImplementedError
