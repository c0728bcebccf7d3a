"""A run's folder: what its files are called, who may write into it, and which checkpoint of it is whole."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path
from typing import Any

from hbo.errors import ConfigError, DataError, ResumeError
from hbo.folder.records import read_object

CONFIG, MIXTURE, LEDGER, METRICS_FILE = "config.yaml", "mixture.json", "balance.jsonl", "metrics.json"
STATUS, LOG, TRAINER_STATE = "status.json", "log.jsonl", "trainer_state.json"
REPORT, EVALUATION = "report.html", "eval.json"
STOP = "stop"
"""A file that anybody may put there, from any machine: the run saves and ends, as after SIGTERM."""
MODEL_FOLDER, MODEL_CARD, BOARD = "model", "README.md", "runs"
"""Folder of the finished model; the card in it, and the trainer's beside it; TensorBoard's folder."""
Stamp = tuple[int, int, int]
_OURS = (CONFIG, LEDGER, METRICS_FILE, MODEL_FOLDER, EVALUATION, REPORT, MIXTURE, TRAINER_STATE, MODEL_CARD, BOARD, LOG)
_OURS_BEGUN = tuple(f".{name}." for name in _OURS)  # left by a process that was killed while it wrote them


def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> Path | None:
    """Sees that a run may write into the folder, without changing it; returns the checkpoint to go on from, if any.

    Raises:
        ConfigError: The folder holds another run or foreign files, or can't be written to.
        ResumeError: There is no run to resume.
    """
    if resume and overwrite:
        raise ConfigError("--resume and --overwrite can't be combined; give one of them")
    try:
        is_there, is_folder = folder.exists(), folder.is_dir()
    except (OSError, ValueError) as error:  # a name too long
        raise ConfigError(f"{str(folder)[:100]}: isn't a valid folder name ({error}); give --output another") from None
    if is_there and not is_folder:
        raise ConfigError(f"{folder}: is a file; give --output a folder")
    # What an attempt said that was refused before it trained is no run.
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    held = [name for name in names if not name.lstrip(".").startswith(STATUS)]
    ours = files_of(folder)
    if resume:
        return _checkpoint_to_resume(folder)
    if ours and not overwrite:
        raise ConfigError(f"{folder}: holds another run; add --resume to go on with it, or --overwrite to replace it")
    if not ours and held:
        raise ConfigError(f"{folder}: holds files that hbo didn't write ({held[0]}); give --output a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, "no permission, or a read-only file system")
    except (OSError, ValueError) as error:  # a ValueError for a name that no file system takes
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{folder}: can't be written to ({reason}); give --output another folder") from None
    return None


def files_of(folder: Path) -> list[Path]:
    """What a run has written into the folder, but for its status: that is of the attempt that spoke last."""
    held = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in held if path.name.startswith((*_OURS_BEGUN, "checkpoint-")) or path.name in _OURS]


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end.

    transformers writes `trainer_state.json` last, so a checkpoint in which it is whole is whole itself.
    """
    return next(filter(_is_whole, checkpoints(folder)), None)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in the folder, whole or not, the newest first."""
    numbered = [(path.name.removeprefix("checkpoint-"), path) for path in folder.glob("checkpoint-*")]
    steps = {int(number): path for number, path in numbered if number.isdecimal()}
    return [steps[step] for step in sorted(steps, reverse=True)]


def stamp_of(file: Path) -> Stamp | None:
    """What tells one content of the file from another without reading it; None if there is no such file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _checkpoint_to_resume(folder: Path) -> Path | None:
    if not (folder / CONFIG).is_file():
        raise ResumeError(f"{folder}: holds no run to resume; start one without --resume")
    found = last_checkpoint(folder)
    pickled = [*found.glob("pytorch_model*.bin"), *found.glob("adapter_model*.bin")] if found else []
    if found and pickled and not any(found.glob("*.safetensors")):
        raise ResumeError(
            f"{found}: holds its weights as a pickle ({pickled[0].name}), which can run code when it is read; save "
            "them as safetensors, or begin a new run"
        )
    # DeepSpeed keeps its optimizer in a folder named after the step.
    if found and not any(found.glob("optimizer*")) and not any(found.glob("global_step*")):
        raise ResumeError(
            f"{found}: holds the model without its optimizer (train.save_only_model), so the run can't be resumed "
            "exactly; begin a new run, from that model if you like"
        )
    return found


def snapshot(folder: Path) -> dict[str, Any]:
    """The balancer's state in a checkpoint, or in the folder of a finished run; empty if there is none."""
    try:
        state = read_object(folder / TRAINER_STATE) or {}
        found = state["stateful_callbacks"]["HBOState"]["attributes"]["snapshot"]
    except (DataError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_whole(checkpoint: Path) -> bool:
    # Other processes write their random states when they get to it, perhaps after the first has written the state.
    # There may be more than needed: left by an interrupted save of this step by more processes.
    found = snapshot(checkpoint)
    random_states = list(checkpoint.glob("rng_state_*.pth"))
    enough = not random_states or sum(map(zipfile.is_zipfile, random_states)) >= found.get("processes", 0)
    return bool(found) and enough
