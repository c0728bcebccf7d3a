"""RUN_OR_MODEL → the model to evaluate: a run's, an adapter on its base, or whatever `model:` accepts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from hbo.compat import accelerator
from hbo.config.file import load
from hbo.errors import ModelError
from hbo.folder.paths import CONFIG, MODEL_FOLDER
from hbo.progress import Track, silent
from hbo.scoring.models import load_model, load_tokenizer, resolve
from hbo.text import first_line

_ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Subject:
    """What is evaluated."""

    run: Path | None
    """The run's folder; None for a model that is no run's."""
    model: str
    base: str | None
    """What an adapter is put on; None for a whole model."""
    trusted: bool = False
    """Whether code that the model brings may run."""


def find_subject(name: str, *, trust_remote_code: bool = False) -> Subject:
    """What `name`, a run's folder or a model, stands for, without loading it.

    Its own code may run if `trust_remote_code` or the run's `train:` says so.

    Raises:
        ModelError: It is a run without a model, or an adapter that names no base.
        ConfigError: The run's configuration can't be read.
    """
    folder = Path(name)
    try:
        is_run = (folder / CONFIG).is_file()
    except OSError as error:  # a name too long for a path
        raise ModelError(f"model '{name[:100]}' can't be looked up ({error.strerror}); check the path") from None
    if is_run and not (folder / MODEL_FOLDER).is_dir():
        raise ModelError(f"{folder}: the run has written no model yet; finish it with hbo train … --resume")
    where = folder / MODEL_FOLDER if is_run else folder
    config = load(folder / CONFIG) if is_run else None
    trusted = trust_remote_code or (config is not None and config.train.get("trust_remote_code") is True)
    if not (where / _ADAPTER).is_file():
        return Subject(folder if is_run else None, str(where) if is_run else name, None, trusted)
    base = config.model if config is not None else _base_of(where)
    return Subject(folder if is_run else None, str(where), base, trusted)


def load_subject(
    subject: Subject, dtype: torch.dtype, *, track: Track = silent
) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    """The model on the best device here, in evaluation mode, and its tokenizer; an adapter is not merged.

    Raises:
        ModelError: One of them can't be loaded.
    """
    spec = resolve(subject.base or subject.model, track=track)
    model: Any = load_model(spec, dtype=dtype, trust_remote_code=subject.trusted)
    if subject.base:
        model = _with_adapter(model, subject.model, subject.base)
    has_own = not subject.base or any(Path(subject.model).glob("*token*"))
    tokenizer = load_tokenizer(subject.model if has_own else str(subject.base), trust_remote_code=subject.trusted)
    return model.to(device()).eval(), tokenizer


def device() -> torch.device:
    """The accelerator here, or the CPU."""
    return accelerator() or torch.device("cpu")


def _with_adapter(model: Any, folder: str, base: str) -> Any:
    from peft import PeftModel

    if not any(Path(folder).glob("*.safetensors")):
        raise ModelError(f"model '{folder}': the adapter's weights (adapter_model.safetensors) are missing")
    try:
        return PeftModel.from_pretrained(model, folder, use_safetensors=True)
    except Exception as error:  # readers of foreign folders raise anything
        reason = first_line(error)[:300]
        raise ModelError(f"model '{folder}': the adapter can't be put on '{base}' ({reason})") from None


def _base_of(folder: Path) -> str:
    try:
        base = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    if not isinstance(base, str) or not base:
        raise ModelError(f"model '{folder}': {_ADAPTER} names no base_model_name_or_path; write the base model there")
    return base
