"""`status.json`: what a run is doing right now, and whether its process still lives."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, ValidationError

from hbo.atomic import write_file
from hbo.errors import DataError
from hbo.folder.paths import STATUS
from hbo.folder.records import Count, Record, read_object

FINISHED, FAILED, INTERRUPTED = "finished", "failed", "interrupted"
Time = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Status(Record):
    """What a run said last; times are seconds since 1970, by the clock of its machine."""

    phase: str
    done: Count
    total: Count
    first: Count
    """`done` when the phase began: a resumed run doesn't begin at 0."""
    began: Time
    updated: Time
    trains: StrictBool
    """Whether the folder's other files are of this run; before it trains they are of one that was there before."""
    pid: Count
    born: Count
    """When the process was started, in ticks since its machine was, which tells it from a later one; 0 if unknown."""
    host: str
    """The machine, and the container on it, in which `pid` counts."""
    end: Literal["finished", "failed", "interrupted"] | None = None
    message: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Of a run that no `config.yaml` belongs to, what would stand there: model, seed, `mixture`, `balance`."""

    @property
    def seconds_per_step(self) -> float | None:
        """What each of the phase's steps took on average, or None before there are any."""
        done, spent = self.done - self.first, self.updated - self.began
        return spent / done if done > 0 and spent > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """What the phase will still take at its pace so far."""
        pace = self.seconds_per_step
        return None if pace is None else max(self.total - self.done, 0) * pace


def new_status(now: float) -> Status:
    """The first word of the process that asks, `now` being the time."""
    pid, host = os.getpid(), _host()
    return Status(
        phase="starting", done=0, total=0, first=0, began=now, updated=now, trains=False,
        pid=pid, born=_born(pid) or 0, host=host, end=None, message="",
    )  # fmt: skip


def write_status(folder: Path, status: Status | bytes) -> None:
    """Replaces the file if it can be done: the file only helps to watch a run, and no disk stops it.

    A folder that someone has removed is not made anew.
    """
    if folder.is_dir():
        with contextlib.suppress(DataError):
            write_file(folder / STATUS, status if isinstance(status, bytes) else status.to_json())


def read_status(folder: Path) -> Status | None:
    """What the run in `folder` said last, or None where it says nothing that can be understood."""
    try:
        data = read_object(folder / STATUS)
        return None if data is None else Status.model_validate(data)
    except (DataError, ValidationError):
        return None


def is_gone(status: Status) -> bool:
    """Whether the process has ended without a word; False also where that can't be known from this machine."""
    if status.end is not None or status.host != _host() or os.name != "posix":
        return False
    try:
        os.kill(status.pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass  # someone else's, but there
    born = _born(status.pid)
    return born is not None and status.born not in (0, born)


def is_running(status: Status) -> bool:
    """Whether the process is alive; False also where that can't be known from this machine."""
    return status.end is None and status.host == _host() and os.name == "posix" and not is_gone(status)


def _host() -> str:
    # A container may bear its machine's name (docker --net=host), but it counts processes for itself.
    try:
        return f"{platform.node()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _born(pid: int) -> int | None:
    # Linux only. A process that has ended and waits for its parent (Z) is as good as none.
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return -1 if state in "ZX" else int(rest[18])
