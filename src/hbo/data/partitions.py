"""The columns that folders' names give to the files in them, as Spark, pandas and Hive lay tables out: `lang=de/…`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

Value = str | int | None

_PART = re.compile(r"([^=]+)=(.*)")
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_columns(files: Sequence[Path]) -> list[dict[str, Value]]:
    """For each file the columns that the folders right above it name; a column of whole numbers only holds numbers.

    Example:
        >>> partition_columns([Path("t/year=2024/lang=de/0.parquet")])
        [{'year': 2024, 'lang': 'de'}]
    """
    texts = [_texts(file) for file in files]
    values: dict[str, set[str]] = {}
    for each in texts:
        for name, text in each.items():
            values.setdefault(name, set()).add(text)
    whole = {name for name, found in values.items() if all(map(_WHOLE.fullmatch, found - {_NULL}))}
    return [{name: _value(text, name in whole) for name, text in each.items()} for each in texts]


def _texts(file: Path) -> dict[str, str]:
    found = takewhile(bool, map(_PART.fullmatch, reversed(file.parts[:-1])))
    return dict(reversed([(unquote(part[1]), unquote(part[2])) for part in found if part]))


def _value(text: str, is_whole: bool) -> Value:
    if text == _NULL:
        return None
    return int(text) if is_whole else text
