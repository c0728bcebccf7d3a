"""`status.json`: what a run is doing right now, and whether its process still lives."""

from __future__ import annotations

import json
import math
import os
import platform
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

FILE = "status.json"
FINISHED, FAILED, INTERRUPTED = "finished", "failed", "interrupted"
_ENDS = (FINISHED, FAILED, INTERRUPTED)


@dataclass(frozen=True)
class Status:
    """What a run said last; times are seconds since 1970, by the clock of its machine."""

    phase: str
    done: int
    total: int
    first: int
    """`done` when the phase began: a resumed run doesn't begin at 0."""
    began: float
    updated: float
    trains: bool
    """Whether the folder's other files are of this run; before it trains they are of one that was there before."""
    pid: int
    born: int
    """When the process was started, in ticks since its machine was, which tells it from a later one; 0 if unknown."""
    host: str
    """The machine, and the container on it, in which `pid` counts."""
    end: str | None = None
    message: str = ""

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

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"


def read_status(folder: Path) -> Status | None:
    """What the run in `folder` said last, or None where it says nothing that can be understood.

    Raises:
        Nothing: the file only helps to watch a run, and whatever else is in it is no reason to stop.
    """
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not all(_fits(field.type, data.get(field.name)) for field in fields(Status)):
        return None
    return Status(**{field.name: data[field.name] for field in fields(Status)})


def this_process() -> tuple[int, int, str]:
    """`pid`, `born` and `host` of the process that asks."""
    return os.getpid(), _born(os.getpid()) or 0, _host()


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


def _fits(kind: Any, value: Any) -> bool:
    match kind:
        case "int":
            return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        case "bool":
            return isinstance(value, bool)
        case "str":
            return isinstance(value, str)
    return value is None or value in _ENDS
