"""Runs the cells of a grid, one process each; several runners may share a grid."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbo.atomic import write_file
from hbo.compare.grid import Cell
from hbo.compare.grid_progress import Progress
from hbo.config.file import dump, load
from hbo.errors import ConfigError, Interrupted
from hbo.folder.paths import CONFIG, last_checkpoint, stamp_of
from hbo.run.arguments import typed

_POLL = 0.2


@dataclass(frozen=True)
class EvalCommand:
    """How finished cells are evaluated: options of `hbo eval`, and whether a run's folder has all their results."""

    words: Sequence[str]
    is_done: Callable[[Path], bool]


def run_grid(
    cells: Sequence[Cell],
    output: Path,
    finished: Callable[[], None],
    say: Callable[[str], None],
    evaluation: EvalCommand | None = None,
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
    tell = Progress(cells, say)
    tell.begins()
    while waiting:
        busy = []
        for cell in waiting:
            with _lock(cell.folder.with_name(f"{cell.folder.name}.lock"), wait=False) as held:
                if held is None:
                    busy.append(cell)
                    continue
                code, log = 0, cell.folder.with_name(f"{cell.folder.name}.log")
                if not cell.is_finished:
                    code = _train(cell, held, log, output, tell)
                    _publish(output, finished)
                if evaluation and not code and not evaluation.is_done(cell.folder):
                    log = cell.folder.with_name(f"{cell.folder.name}.eval.log")
                    tell.of(cell, "is evaluated")
                    code = _hbo(["eval", str(cell.folder), *evaluation.words], held, log, ExitStack(), lambda: True)
                    _publish(output, finished)
                if code:
                    failed += 1
                    tell.failed(cell, f"failed (exit code {code}): {_last_line(log)}; see {log}")
        waiting = busy
        if busy:
            time.sleep(_POLL)
    _publish(output, finished)
    return failed


def _train(cell: Cell, held: int, log: Path, output: Path, tell: Progress) -> int:
    resume = last_checkpoint(cell.folder) is not None and (cell.folder / CONFIG).is_file()
    tell.starts(cell, "goes on" if resume else "starts")
    words = ["train", str(cell.file), "--resume" if resume else "--overwrite"]
    before = None if resume else stamp_of(cell.folder / CONFIG)
    with ExitStack() as starting:
        # Scores and reference losses are in the cache once a run writes its configuration: measured once per grid.
        starting.enter_context(_lock(output / "start.lock", wait=True))
        code = _hbo(words, held, log, starting, lambda: stamp_of(cell.folder / CONFIG) not in (None, before))
    if not code:
        tell.finished(cell)
    return code


def _hbo(words: Sequence[str], held: int, log: Path, starting: ExitStack, has_started: Callable[[], bool]) -> int:
    """The exit code of an hbo command; `starting` is closed once it has started."""
    with log.open("wb") as file:
        # The child holds the cell's lock too: when this process is killed, nobody starts the cell beside it.
        child = subprocess.Popen(
            [sys.executable, "-m", "hbo", *words],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            pass_fds=(held,),
        )
    with _signals_reach(child) as received:
        while child.poll() is None and not has_started():
            time.sleep(_POLL)
        starting.close()
        code = child.wait()
    if received:
        raise Interrupted("stopped; the same command goes on where it stopped", 128 + received[0])
    return code


@contextmanager
def _signals_reach(child: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """The signals that came while the block ran; each makes the child save and end."""
    got: list[int] = []

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
    text = dump(cell.config)
    if cell.file.exists():
        # Read, not compared as text: a grid of an older hbo lacks the keys that came later, which mean what it did,
        # and has the values of `train:` as they were written.
        if dump(typed(load(cell.file))) != text:
            raise ConfigError(
                f"{cell.file}: belongs to a grid of another configuration; put CONFIG back, or give another --output"
            )
        return
    write_file(cell.file, text)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
