"""Runs the cells of a grid, each in a process of its own and several at once; several runners may share a grid."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hbo.atomic import write_file
from hbo.compare.child import Child
from hbo.compare.failures import EVALUATION_LOG, TRAINING_LOG, last_words, log_of
from hbo.compare.grid import Cell
from hbo.compare.grid_progress import Progress
from hbo.compare.grid_view import Show
from hbo.compare.job import Job, goes_on
from hbo.compare.launcher import Launcher
from hbo.compare.locks import lock_held, take_lock
from hbo.compare.places import Place, places_for
from hbo.compare.starting import Starts
from hbo.config.file import dump, load
from hbo.errors import ConfigError, Interrupted
from hbo.folder.paths import CONFIG, STOP, last_checkpoint
from hbo.run.arguments import typed

_POLL = 0.2
_HBO = (sys.executable, "-m", "hbo")
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


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
    *,
    jobs: int = 1,
    show: Show | None = None,
    launcher: Launcher | None = None,
) -> int:
    """How many cells failed; every other one is finished when this returns, here or by another runner.

    Args:
        cells: What to run; a cell with a metrics.json is left alone.
        output: Folder of the grid.
        finished: Called under a lock after each cell and at the end: writes the results.
        say: Prints a line.
        evaluation: How to evaluate each cell when it is finished; None: it isn't.
        jobs: How many cells run at once at most, each with a GPU of its own, or a part of the CPU's threads.
        show: Shows the cells that run, again and again; None: lines say when one starts.
        launcher: Starts the training of each cell; None: a process of this Python does it.

    Raises:
        ConfigError: The folder holds cells of another configuration, or there are fewer GPUs than jobs.
        Interrupted: SIGTERM, SIGHUP or Ctrl-C; the runs in progress have saved their checkpoints.
    """
    leaves_gpus = all(cell.config.train.get("use_cpu") for cell in cells) or (launcher and launcher.finds_a_machine)
    free = places_for(jobs, len(cells), on_cpu=bool(leaves_gpus), several=launcher is not None)
    (output / "runs").mkdir(parents=True, exist_ok=True)
    for cell in cells:
        _write_config(cell)
    pool = _Pool(cells, output, finished, evaluation, Progress(cells, say, len(free), show), free, launcher)
    with _signals_noted() as received:
        return pool.run(received)


class _Pool:
    def __init__(
        self,
        cells: Sequence[Cell],
        output: Path,
        finished: Callable[[], None],
        evaluation: EvalCommand | None,
        tell: Progress,
        free: list[Place],
        launcher: Launcher | None,
    ) -> None:
        self._output, self._finished, self._evaluation = output, finished, evaluation
        self._tell, self._free, self._launcher, self._jobs_at_once = tell, free, launcher, len(free)
        self._waiting, self._jobs = list(cells), list[Job]()
        self._starts = Starts(output / "start.lock")
        self._elsewhere = self._failed = 0

    def run(self, received: list[int]) -> int:
        """Runs all; returns how many failed. Each of the signals `received` is passed on to the runs in progress."""
        self._tell.begins()
        passed = 0
        try:
            while self._jobs or (self._waiting and not received):
                if not received:
                    self._start_what_can()
                for _ in received[passed:]:
                    passed += 1
                    self._stop()
                for job in list(self._jobs):
                    self._look_after(job)
                self._tell.goes_on(self._elsewhere)
                if self._jobs or self._waiting:
                    time.sleep(_POLL)
        except BaseException:
            self._stop()  # nobody would tell them later
            raise
        self._publish()
        if received:
            raise Interrupted("stopped; the same command goes on where it stopped", 128 + received[0])
        return self._failed

    def _start_what_can(self) -> None:
        """Starts cells in their order, as long as there is a place; one that has to wait for others is passed over."""
        passed_over, elsewhere = [], 0
        while self._waiting and self._free:
            cell = self._waiting.pop(0)
            held = take_lock(cell.folder.with_name(f"{cell.folder.name}.lock"))
            if held is None:
                elsewhere += 1
                passed_over.append(cell)
            elif self._launcher and goes_on(cell):  # though the launcher that holds its lock was killed
                os.close(held)
                passed_over.append(cell)
            elif cell.is_finished:
                self._evaluate(cell, held, self._free.pop(0))
            elif not self._train(cell, held):
                os.close(held)
                passed_over.append(cell)
        self._elsewhere = self._elsewhere if self._waiting else elsewhere
        self._waiting = passed_over + self._waiting

    def _train(self, cell: Cell, held: int) -> bool:
        resume = last_checkpoint(cell.folder) is not None and (cell.folder / CONFIG).is_file()
        look = self._starts.begin(cell, resume=resume)
        if look is None:
            return False
        self._tell.starts(cell, "goes on" if resume else "starts")
        with contextlib.suppress(OSError):
            (cell.folder / STOP).unlink()  # meant for an attempt that had ended by then
        place, words = self._free.pop(0), ["train", str(cell.file), "--resume" if resume else "--overwrite"]
        command, added = [*_HBO, *words], place
        if self._launcher:
            command = self._launcher.command(words, beside_others=self._jobs_at_once > 1)
            added = place | self._launcher.environment()
        child = Child(command, log_of(cell, TRAINING_LOG), held, added)
        self._jobs.append(Job(cell, held, place, child, look, is_training=True, is_launched=bool(self._launcher)))
        return True

    def _evaluate(self, cell: Cell, held: int, place: Place) -> None:
        if self._evaluation is None or self._evaluation.is_done(cell.folder):
            self._let_go(held, place)
            return
        self._tell.evaluates(cell)
        words = ["eval", str(cell.folder), *self._evaluation.words]
        child = Child([*_HBO, *words], log_of(cell, EVALUATION_LOG), held, place)
        self._jobs.append(Job(cell, held, place, child, lambda has_ended: None, is_training=False))

    def _look_after(self, job: Job) -> None:
        code = job.code()
        if code is None:
            return
        self._jobs.remove(job)
        is_done = not code and job.cell.is_finished
        if not job.is_training:
            self._tell.evaluated(job.cell)
        elif is_done:
            self._tell.finished(job.cell, self._elsewhere)
        self._publish()
        if not is_done and not job.is_stopped:
            self._failed += 1
            log = log_of(job.cell, TRAINING_LOG if job.is_training else EVALUATION_LOG)
            how = f"exit code {code}" if code else "no results; a launcher has to wait for its run"
            self._tell.failed(job.cell, f"failed ({how}): {last_words(log)}")
        if job.is_training and is_done and not job.is_stopped:
            self._evaluate(job.cell, job.held, job.place)
        else:
            self._let_go(job.held, job.place)

    def _let_go(self, held: int, place: Place) -> None:
        os.close(held)
        self._free.append(place)

    def _stop(self) -> None:
        for job in self._jobs:
            job.stop()

    def _publish(self) -> None:
        with lock_held(self._output / "results.lock"):
            self._finished()


@contextlib.contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """The signals that came while the block ran and that ask to stop; one that was ignored before stays so (nohup)."""
    got: list[int] = []
    numbers = [number for number in _STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda which, frame: got.append(which)) for number in numbers}
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
