"""Reading Zstandard files so that a cut-off one is an error and not a shorter file.

Compressed files → their bytes, so that a damaged or cut-off one is an error and never a shorter file.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK = 4096  # small, so that even the best compressed chunk unpacks to a bounded size


class ZstdError(Exception):
    """Zstandard data that is damaged or ends too early."""


def open_zstd(path: Path) -> io.BufferedReader:
    """The unpacked bytes of `path`, as a file; reading it raises ZstdError when the data is damaged or cut off."""
    return io.BufferedReader(_Unpacked(path))


class _Unpacked(io.RawIOBase):
    """One frame after another, each of which must come to its end."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame: Any = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not len(self._ready):
            self._packed = self._packed or self._file.read(_CHUNK)
            if not self._packed:
                if self._frame is not None:
                    raise ZstdError("the last frame has no end")
                return 0
            self._ready = memoryview(self._unpack())
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()

    def _unpack(self) -> bytes:
        import zstandard

        if self._frame is None:
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            data: bytes = self._frame.decompress(self._packed)
        except zstandard.ZstdError as error:
            raise ZstdError(str(error)) from None
        self._packed = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame = None
        return data


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
