"""A run's folder, looked at again and again → what there is to show of it now."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

from hbo.errors import DataError
from hbo.folder import log
from hbo.folder.ledger import Line, read_lines
from hbo.folder.paths import CONFIG, LEDGER, METRICS_FILE, Stamp, stamp_of
from hbo.folder.run import read_config, settings_told
from hbo.folder.status import FINISHED, INTERRUPTED, Status, is_gone, read_status

WAITING, RUNNING, REMOVED = "waiting", "running", "removed"
_KILLED = "its process is gone and left no word; it was killed, or the machine went down"
Point = tuple[int, float]


@dataclass(frozen=True)
class DatasetView:
    """A dataset: its probability now and at the start, and what was last measured of it."""

    name: str
    p: float
    p_start: float
    reward: float | None
    reward_se: float | None
    loss: float | None
    q_L: tuple[float, ...]
    q_start_L: tuple[float, ...]
    reward_L: tuple[float, ...] | None


@dataclass(frozen=True)
class View:
    """A run as it stands.

    Attributes:
        state: `waiting` for training to begin, `running`, `finished`, `failed`, `interrupted` or `removed`.
        message: Why it ended, if it said so.
        about: Method, seed and model, in a few words.
        step: Optimizer steps done, `steps` of how many; 0 if unknown.
        silence: Seconds since the run last wrote something.
        losses: First and latest training loss, with their steps.
    """

    name: str
    state: str
    message: str = ""
    about: str = ""
    status: Status | None = None
    step: int = 0
    steps: int = 0
    silence: float = 0.0
    updates: int = 0
    losses: tuple[Point, Point] | None = None
    rows: tuple[DatasetView, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state not in (WAITING, RUNNING)


def is_run(folder: Path) -> bool:
    """Whether a run has begun to write into the folder."""
    return (folder / LEDGER).is_file() or read_status(folder) is not None


class Watcher:
    """Looks at a run; what has not changed since the last look is not read again.

    Args:
        folder: The run's.

    Raises:
        DataError: No run has written into the folder.
    """

    def __init__(self, folder: Path) -> None:
        try:
            what = "holds no run" if folder.is_dir() else "is a file" if folder.exists() else "no such folder"
        except (OSError, ValueError) as error:
            raise DataError(
                f"{str(folder)[:100]}: isn't a valid folder name ({error}); give the folder of a run"
            ) from None
        if not is_run(folder):
            raise DataError(f"{folder}: {what}; give the folder that a run writes to, or --wait for it to begin")
        self.folder = folder
        self.name = folder.resolve().name
        self._tail = log.Tail(folder)
        self._first: dict[str, Point] = {}
        self._last: dict[str, Point] = {}
        self._ledger: tuple[tuple[str, ...], tuple[Line, ...]] | None = None
        self._about = ""
        self._stamps: dict[str, Stamp | None] = {}
        self._steps = 0

    def look(self) -> View:
        """The run as it stands.

        Raises:
            DataError: A file of the run is damaged; file and line are named.
        """
        if not self.folder.is_dir() or not is_run(self.folder):
            return View(self.name, REMOVED)
        told = read_status(self.folder)
        self._read_log()
        if self._has_changed(CONFIG):
            self._about = _about(self.folder)
        if self._has_changed(LEDGER):
            self._ledger = self._read_ledger()
        state, message = self._state(told)
        # Before it trains, a run's folder still holds the files of the one that it is to replace, or goes on with.
        ledger = self._ledger if told is None or told.trains else None
        if told is not None and told.phase == "training":
            self._steps = told.total
        view = View(self.name, state, message, self._about, told, silence=self._silence(told))
        if ledger is None:
            return view if view.has_ended else replace(view, state=WAITING)
        datasets, lines = ledger
        step = max(lines[-1].step, self._last.get("loss", (0, 0.0))[0])
        return replace(
            view,
            step=told.done if told and told.phase == "training" else step,
            steps=self._steps,
            updates=sum(line.step > 0 for line in lines),
            losses=(self._first["loss"], self._last["loss"]) if "loss" in self._last else None,
            rows=tuple(self._row(k, name, lines) for k, name in enumerate(datasets)),
        )

    def _state(self, told: Status | None) -> tuple[str, str]:
        if told is None:  # a loop of one's own, or a folder that was copied in part
            return (FINISHED, "") if (self.folder / METRICS_FILE).is_file() else (RUNNING, "")
        if is_gone(told):
            again = read_status(self.folder)  # it may have said so between the two looks
            return (again.end, again.message) if again and again.end else (INTERRUPTED, _KILLED)
        return told.end or RUNNING, told.message

    def _row(self, k: int, name: str, lines: tuple[Line, ...]) -> DatasetView:
        first, last = lines[0], lines[-1]
        measured = next((line for line in reversed(lines) if line.reward_K is not None), None)
        inside = next((line for line in reversed(lines) if line.reward_KL is not None), None)
        return DatasetView(
            name=name,
            p=last.p_K[k],
            p_start=first.p_K[k],
            reward=_known(measured.reward_K, k) if measured else None,
            reward_se=_known(measured.reward_se_K, k) if measured else None,
            loss=self._last[f"loss/{name}"][1] if f"loss/{name}" in self._last else None,
            q_L=last.q_KL[k],
            q_start_L=first.q_KL[k],
            reward_L=inside.reward_KL[k] if inside and inside.reward_KL else None,
        )

    def _read_log(self) -> None:
        is_new, entries = self._tail.read()
        if is_new:
            self._first, self._last = {}, {}
        for entry in entries:
            for key, value in entry.items():
                if key.startswith("loss") and isinstance(value, int | float):
                    point = (entry["step"], float(value))
                    self._first.setdefault(key, point)
                    self._last[key] = point

    def _read_ledger(self) -> tuple[tuple[str, ...], tuple[Line, ...]] | None:
        file = self.folder / LEDGER
        if not self._stamps[LEDGER] or b"\n" not in _start_of(file):
            return None
        return read_lines(file)

    def _has_changed(self, name: str) -> bool:
        stamp = stamp_of(self.folder / name)
        changed = self._stamps.get(name, ()) != stamp
        self._stamps[name] = stamp
        return changed

    def _silence(self, told: Status | None) -> float:
        stamp = self._stamps.get(LEDGER)
        spoke = told.updated if told else stamp[1] / 1e9 if stamp else time.time()
        return max(time.time() - spoke, 0.0)


def _start_of(file: Path) -> bytes:
    # As much as the first line of a thousand datasets; a run that was removed this moment has none.
    try:
        with file.open("rb") as opened:
            return opened.read(2**20)
    except OSError:
        return b""


def _known(values: tuple[float, ...] | None, k: int) -> float | None:
    return None if values is None or math.isnan(values[k]) else values[k]


def _about(folder: Path) -> str:
    try:
        config = read_config(folder / CONFIG)[0] or settings_told(read_status(folder))
    except DataError:
        return ""  # being replaced, or someone's own; nothing here depends on it
    balance = config.get("balance")
    method = balance.get("method") if isinstance(balance, dict) else None
    model = str(config.get("model") or "")
    if model.startswith(("/", ".", "~")):
        model = Path(model).name  # a folder of this machine, whose place says nothing
    found = (str(method or ""), f"seed {config['seed']}" if "seed" in config else "", model)
    return ", ".join(part for part in found if part)
