"""Entries of a trainer's list of datasets → their names, which the user reads in the ledger and in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hbo.config.data import stem


def entry_names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each entry: its `name`, else that of its file or path; with its place where two would be alike.

    Example:
        >>> entry_names([{"path": "a/math.jsonl"}, {"path": "org/chat", "name": "en"}, {"path": "b/math.jsonl"}])
        ['math-1', 'en', 'math-3']
    """
    names = [str(entry.get("name") or stem(_file_of(entry))) for entry in entries]
    found: list[str] = []
    for place, name in enumerate(names, 1):
        own = name if names.count(name) == 1 else f"{name}-{place}"
        while own in found or (own != name and own in names):
            own += f"-{place}"
        found.append(own)
    return found


def _file_of(entry: Mapping[str, Any]) -> Any:
    files = entry.get("data_files")
    return files if isinstance(files, str) else entry.get("path")
