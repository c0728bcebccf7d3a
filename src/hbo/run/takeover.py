"""A run that replaces another: the former one stays whole until the new one has done its first step.

    folder/             the former run, as it was
      .former.part/     its files are moved here; wherever one lies, it is the former run's
      .former/          all are here; what else the folder holds of a run is the new one's
      .former.gone/     the new run has done a step; this is being removed

From each line to the next leads one renaming, so wherever a process is killed, the next one knows whose files are
whose. Up to the third line the former run is put back.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hbo.errors import ConfigError, DataError
from hbo.folder import paths as run_folder
from hbo.folder.status import is_running, read_status
from hbo.training.live_log import Teller

_MOVING, _FORMER, _GONE = ".former.part", ".former", ".former.gone"


def set_aside(folder: Path, said: bytes | None = None) -> None:
    """Moves the files of the folder's run out of another's way; `said` is its status, which the new one's overwrote.

    Raises:
        DataError: They can't be moved; they lie where they were.
    """
    moving = folder / _MOVING
    try:
        moving.mkdir()
        if said is not None:
            (moving / run_folder.STATUS).write_bytes(said)
        for path in run_folder.files_of(folder):
            path.rename(moving / path.name)
        moving.rename(folder / _FORMER)
    except OSError as error:
        with contextlib.suppress(OSError):
            put_back(folder)
        raise DataError(
            f"{folder}: the run that it holds can't be moved out of the way ({error.strerror}); give --output another "
            "folder"
        ) from None


def put_back(folder: Path) -> bool:
    """Whether a run had been set aside that is there again now; what another has begun in its place is removed."""
    former, moving, gone = folder / _FORMER, folder / _MOVING, folder / _GONE
    if gone.is_dir():
        shutil.rmtree(gone, ignore_errors=True)
    if former.is_dir():
        for path in run_folder.files_of(folder):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        former.rename(moving)
    if not moving.is_dir():
        return False
    for path in sorted(moving.iterdir()):
        path.replace(folder / path.name)
    moving.rmdir()
    return True


def let_go(folder: Path) -> None:
    """Removes the run that was set aside, for good; what can't be removed now is when the folder is next trained in."""
    former, gone = folder / _FORMER, folder / _GONE
    with contextlib.suppress(OSError):
        former.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def recover(folder: Path) -> bool:
    """Whether the folder's run is back that a killed process had set aside.

    Raises:
        ConfigError: The process that set it aside still runs.
        DataError: It can't be put back.
    """
    try:
        if not any((folder / name).is_dir() for name in (_MOVING, _FORMER, _GONE)):
            return False
    except (OSError, ValueError):  # no folder's name; whoever wants to write into it says so
        return False
    now = read_status(folder)
    if now is not None and is_running(now):
        raise ConfigError(
            f"{folder}: process {now.pid} is starting a run there; wait until it has ended, stop it, or give "
            "--output another folder"
        )
    try:
        return put_back(folder)
    except OSError as error:
        raise DataError(
            f"{folder}: the earlier run can't be put back ({error.strerror}); nothing of it is lost: it is in "
            f"{folder / _FORMER}*"
        ) from None


class Takeover(TrainerCallback):
    """Sets a run aside when another is ready to train, and lets go of it after the first step.

    `teller` keeps the new run's status, and `say` hears that the former run is there again. Only the process that
    `is_first` writes.
    """

    def __init__(self, folder: Path, teller: Teller, say: Callable[[str], None], *, is_first: bool) -> None:
        self.folder, self.teller, self.say, self.is_first = folder, teller, say, is_first
        self._is_aside = self._is_through = False

    def begin(self) -> None:
        """Sets the former run aside, if there is one; `auto_find_batch_size` starts over and calls it again."""
        if self.is_first and not (self._is_aside or self._is_through) and run_folder.files_of(self.folder):
            set_aside(self.folder, self.teller.before)
            self._is_aside = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Lets go of it."""
        self._let_go()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Nothing; when the block ends before a step is done, for whatever reason, the former run is there again."""
        try:
            yield
        except BaseException:
            if self._is_aside:
                with contextlib.suppress(OSError):  # where it lies, the next start finds it
                    put_back(self.folder)
                    self.teller.give_back()
                    self.say(f"{self.folder}: the new run ended before its first step, so the earlier run was put back")
            raise
        self._let_go()

    def _let_go(self) -> None:
        if self._is_aside:
            let_go(self.folder)
        self._is_aside, self._is_through = False, True
