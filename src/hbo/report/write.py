"""Bytes → a file that nobody ever sees half of."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hbo.errors import DataError


def write_file(target: Path, data: bytes, what: str, option: str) -> Path:
    """`target`, written beside its place and moved there.

    Args:
        target: File to write or to replace.
        data: All that it will hold.
        what: What the file is, for the error.
        option: Of the command line, that names another place.

    Raises:
        DataError: The file can't be written.
    """
    part = target.with_name(f".{target.name[:100]}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(target)
    except (OSError, ValueError) as error:  # a ValueError for a name that no file system takes
        with contextlib.suppress(OSError, ValueError):
            part.unlink()
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{target}: {what} can't be written ({reason}); give another {option}") from None
    return target
