"""Docstrings of this project as the reference needs them: griffe knows `Examples:`, and `Raises:` with exceptions."""

from __future__ import annotations

import re
from typing import Any

import griffe

RAISES_NOTHING = re.compile(r"^Raises:\n    Nothing[^\n]*\n?", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """griffe has read an object of the source."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = RAISES_NOTHING.sub("", text).strip()
