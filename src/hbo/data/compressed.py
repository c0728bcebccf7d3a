"""Compressed files → their bytes, so that a damaged or cut-off one is an error and never a shorter file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hbo.data.zstd import ZstdError, open_zstd

DAMAGED = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, ZstdError, EOFError)
"""What reading raises when the data is damaged; that of bz2 is an OSError without a number."""

_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.GzipFile,
    ".zst": open_zstd,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}

ENDINGS = tuple(_OPENERS)
"""Endings of the names of compressed files."""


def plain_name(name: str) -> str:
    """`name` in small letters, without the ending of a compressed file.

    Example:
        >>> plain_name("Chat.JSONL.gz")
        'chat.jsonl'
    """
    name = name.lower()
    return next((name.removesuffix(ending) for ending in ENDINGS if name.endswith(ending)), name)


def opened(path: Path) -> io.BufferedReader:
    """The bytes of `path`, unpacked if it is compressed."""
    name = path.name.lower()
    opener = next((opener for ending, opener in _OPENERS.items() if name.endswith(ending)), None)
    return io.BufferedReader(opener(path)) if opener else path.open("rb")
