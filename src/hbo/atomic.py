"""Files and folders that are there whole or not at all: nobody ever sees half of one."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hbo.errors import DataError


@contextmanager
def atomic_path(path: Path, what: str = "", option: str = "") -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes `path`'s name when the block ends well.

    The folder is made if need be. When the block raises, nothing is left behind and an older `path` stays as it was.

    Args:
        path: File to write or to replace.
        what: What the file is, for the error, if its name doesn't say enough.
        option: Of the command line, that names another place.

    Raises:
        DataError: The folder can't be made or written to, or its disk is full.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "scores.txt"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("0.5")
        >>> target.read_text()
        '0.5'
    """

    def refusal(said: str, error: OSError | ValueError) -> DataError:
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        known = "free space, or choose another folder (HBO_CACHE for the cache, --output for a run)"
        return DataError(f"{said} ({reason}); {f'give another {option}' if option else known}")

    whole = f"{path}: {what}{' ' if what else ''}can't be written"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}")
        temporary.touch(exist_ok=False)  # as the umask says: others read a shared cache, which mkstemp forbids
    except (OSError, ValueError) as error:  # a ValueError for a name that no file system takes
        raise refusal(whole if what else f"{path.parent}: can't be written to", error) from None
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise refusal(whole, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes, what: str = "", option: str = "") -> Path:
    """`path`, which now holds `content` and nothing else; as `atomic_path` otherwise.

    Raises:
        DataError: The file can't be written.
    """
    with atomic_path(path, what, option) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` to fill; it takes `target`'s name when the block ends well.

    When another process was faster its folder is kept. When the block raises, nothing is left behind.

    Raises:
        DataError: The cache can't be written to.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=target.parent))
    except OSError as error:
        raise DataError(
            f"{target.parent}: can't be written to ({error.strerror}); set HBO_CACHE to a folder that can"
        ) from None
    try:
        yield staging
        for path in (staging, *staging.rglob("*")):
            _open_to_others(path)
        try:
            staging.rename(target)
        except OSError as error:
            if not target.is_dir():
                raise DataError(f"{target}: can't be written ({error.strerror}); move away what lies there") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _open_to_others(path: Path) -> None:
    # tempfile makes everything private, which a shared cache must not be.
    umask = os.umask(0)
    os.umask(umask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
