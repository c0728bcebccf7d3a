"""GGUF weights → a folder in the cache that transformers loads like any other, made once per file."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from hbo.atomic import new_folder
from hbo.compat import dequantizing, loaded_in
from hbo.data.cache import sha256
from hbo.errors import DataError, ModelError
from hbo.progress import Track
from hbo.text import first_line

_WEIGHTS = "weights.gguf"


def from_file(file: Path, cache: Path, track: Track) -> Path:
    """The folder that holds the dequantized float32 model and the tokenizer of a `.gguf` file.

    Raises:
        ModelError: The file isn't GGUF, is damaged or of an architecture that transformers can't read.
        DataError: The file can't be read, or the cache can't be written to.
    """
    folder = folder_for(cache, file.stem, sha256(file))
    if not folder.is_dir():
        convert(file, folder, lambda place: place.symlink_to(file.resolve()), track)
    return folder


def folder_for(cache: Path, name: str, digest: str) -> Path:
    """Where the model dequantized from a file of this hash lies, or will."""
    return cache / "models" / f"{name}-{digest[:16]}"


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


def convert(source: Path, folder: Path, put: Callable[[Path], object], track: Track) -> None:
    """Fills `folder` with the model of a GGUF file, which `put` lays at the path that it is given.

    Raises:
        ModelError: What `source` holds can't be read as GGUF.
        DataError: The folder can't be written.
    """
    with new_folder(folder) as staging, track("dequantizing the model", 3) as advance, quiet():
        # Alone in a folder, so that no config or tokenizer of a neighbour is taken for the file's own.
        alone = staging / "alone"
        alone.mkdir()
        put(alone / _WEIGHTS)
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
            output_loading_info=True,
            **loaded_in(torch.float32),
            **dequantizing(),
        )
    return model, sorted(info["missing_keys"])
