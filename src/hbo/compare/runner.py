"""Runs the cells of a grid, one process each; several runners may share a grid.

What a grid would run, in words.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbo.compare.grid import Cell
from hbo.config import file as config_file
from hbo.data.cache import atomic_path
from hbo.errors import ConfigError, Interrupted
from hbo.folder.paths import CONFIG, METRICS, last_checkpoint
from hbo.run.arguments import typed

_POLL = 0.2


@dataclass(frozen=True)
class Evaluation:
    """How finished cells are evaluated.

    Attributes:
        words: Options of `hbo eval`.
        is_done: Whether a run's folder has all their results.
    """

    words: Sequence[str]
    is_done: Callable[[Path], bool]


def run_grid(
    cells: Sequence[Cell],
    output: Path,
    finished: Callable[[], None],
    say: Callable[[str], None],
    evaluation: Evaluation | None = None,
) -> int:
    """How many cells failed; every other one is finished when this returns, here or by another runner.

    Args:
        cells: What to run; a cell with a metrics.json is left alone.
        output: Folder of the grid.
        finished: Called under a lock after each cell and at the end: writes the results.
        say: Prints a line.
        evaluation: How to evaluate each cell when it is finished; None: it isn't.

    Raises:
        ConfigError: The folder holds cells of another configuration.
        Interrupted: SIGTERM or Ctrl-C; the run in progress has saved its checkpoint.
    """
    (output / "runs").mkdir(parents=True, exist_ok=True)
    for cell in cells:
        _write_config(cell)
    waiting, failed = list(cells), 0
    while waiting:
        busy = []
        for cell in waiting:
            with _lock(cell.folder.with_name(f"{cell.folder.name}.lock"), wait=False) as held:
                if held is None:
                    busy.append(cell)
                    continue
                code, log = 0, cell.folder.with_name(f"{cell.folder.name}.log")
                if not is_finished(cell):
                    code = _run(cell, held, output, say)
                    _publish(output, finished)
                if evaluation and not code and not evaluation.is_done(cell.folder):
                    log = cell.folder.with_name(f"{cell.folder.name}.eval.log")
                    code = _evaluate(cell, held, log, evaluation.words, say)
                    _publish(output, finished)
                if code:
                    failed += 1
                    say(f"{cell.label}, seed {cell.seed}: failed (exit code {code}): {_last_line(log)}; see {log}")
        waiting = busy
        if busy:
            time.sleep(_POLL)
    _publish(output, finished)
    return failed


def is_finished(cell: Cell) -> bool:
    """Whether the cell's results are there; they are written whole, and last.

    Raises:
        Nothing.
    """
    return (cell.folder / METRICS).is_file()


def _run(cell: Cell, held: int, output: Path, say: Callable[[str], None]) -> int:
    resume = last_checkpoint(cell.folder) is not None and (cell.folder / CONFIG).is_file()
    say(f"{cell.label}, seed {cell.seed}: {'goes on' if resume else 'starts'}")
    command = [sys.executable, "-m", "hbo", "train", str(cell.file), "--resume" if resume else "--overwrite"]
    with cell.folder.with_name(f"{cell.folder.name}.log").open("wb") as log, _lock(output / "start.lock", wait=True):
        before = None if resume else _written(cell.folder / CONFIG)
        # The child holds the cell's lock too: when this process is killed, nobody starts the cell beside it.
        child = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, pass_fds=(held,)
        )
        with _signals_reach(child) as received:
            # Scores and reference losses are in the cache once a run writes its configuration: measured once per grid.
            while child.poll() is None and _written(cell.folder / CONFIG) in (None, before):
                time.sleep(_POLL)
    with _signals_reach(child, received):
        code = child.wait()
    if received:
        raise Interrupted("stopped; the same command goes on where it stopped", 128 + received[0])
    return code


def _written(file: Path) -> tuple[int, int] | None:
    """What tells one writing of the file from the next; None when it isn't there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _evaluate(cell: Cell, held: int, log: Path, words: Sequence[str], say: Callable[[str], None]) -> int:
    say(f"{cell.label}, seed {cell.seed}: is evaluated")
    command = [sys.executable, "-m", "hbo", "eval", str(cell.folder), *words]
    with log.open("wb") as file:
        child = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, pass_fds=(held,)
        )
    with _signals_reach(child) as received:
        code = child.wait()
    if received:
        raise Interrupted("stopped; the same command goes on where it stopped", 128 + received[0])
    return code


@contextmanager
def _signals_reach(child: subprocess.Popen[bytes], received: list[int] | None = None) -> Iterator[list[int]]:
    got: list[int] = [] if received is None else received

    def pass_on(number: int, frame: Any) -> None:
        got.append(number)
        child.send_signal(signal.SIGTERM)  # of two, the run ignores none; one is enough to make it save

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _lock(file: Path, *, wait: bool) -> Iterator[int | None]:
    """The descriptor of the locked file, None when another process holds it; the kernel frees it with its holders."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _publish(output: Path, finished: Callable[[], None]) -> None:
    with _lock(output / "results.lock", wait=True):
        finished()


def _write_config(cell: Cell) -> None:
    text = config_file.dump(cell.config)
    if cell.file.exists():
        # Read, not compared as text: a grid of an older hbo lacks the keys that came later, which mean what it did,
        # and has the values of `train:` as they were written.
        if config_file.dump(typed(config_file.load(cell.file))) != text:
            raise ConfigError(
                f"{cell.file}: belongs to a grid of another configuration; put CONFIG back, or give another --output"
            )
        return
    with atomic_path(cell.file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def plan(cells: Sequence[Cell]) -> Iterator[str]:
    """A line for each cell, and one for the whole, with an estimate as soon as a cell is finished.

    Raises:
        Nothing.
    """
    seconds = []
    for cell in cells:
        if is_finished(cell):
            seconds.append(float(json.loads((cell.folder / METRICS).read_text(encoding="utf-8"))["train_seconds"]))
        yield f"{cell.label}, seed {cell.seed}: {_budget(cell)}, {'finished' if is_finished(cell) else 'to run'}"
    left = len(cells) - len(seconds)
    guess = ""
    if seconds and left:
        minutes = left * statistics.median(seconds) / 60
        guess = f", about {minutes:.0f} minutes of training at the speed of those (evaluation not counted)"
    yield f"{len(cells)} runs: {len(seconds)} finished, {left} to run{guess}"


def _budget(cell: Cell) -> str:
    steps = cell.config.train.get("max_steps", -1)
    return f"{steps} steps" if steps > 0 else f"{cell.config.train.get('num_train_epochs', 3):g} epochs"
