"""What a run tells whoever watches it: `status.json`, what it is doing, and `log.jsonl`, the trainer's log as it grows.

Neither is needed to train or to resume, so a disk that takes neither stops nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hbo.config import HBOConfig
from hbo.config.balance import written_out
from hbo.errors import Interrupted
from hbo.folder.log import begin_log, extend_log
from hbo.folder.paths import LEDGER, STATUS
from hbo.folder.status import FAILED, FINISHED, INTERRUPTED, new_status, write_status
from hbo.progress import Track
from hbo.text import first_line

_OFTEN = 0.5  # seconds between two writes of the status in which nothing but a count has changed


def settings_of(config: HBOConfig, *, model: Any, seed: int) -> dict[str, Any]:
    """What the `config.yaml` of `hbo train` would say of the balancing of another program's run, as JSON values.

    Example:
        >>> settings_of(HBOConfig(method="uniform"), model=None, seed=3)["mixture"]
        {'temperature': 'inf'}
    """
    balance = written_out(config)
    temperature = balance.pop("temperature")
    found = {
        "model": str(getattr(getattr(model, "config", None), "_name_or_path", None) or ""),
        "seed": seed,
        "mixture": {"temperature": temperature if math.isfinite(temperature) else str(temperature)},
        "balance": balance,
    }
    told: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return told


class Teller:
    """Keeps `status.json` of a run.

    Args:
        folder: The run's; it must be there when the first phase begins.
        speaks: False in all processes but the first.
        ends_with_training: Whether nothing comes after training.
        settings: Of a run without a `config.yaml`, what its report tells: model, seed and the like.
    """

    def __init__(
        self,
        folder: Path,
        *,
        speaks: bool = True,
        ends_with_training: bool = True,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.speaks, self.ends_with_training = folder, speaks, ends_with_training
        self._written = 0.0
        self.before: bytes | None = None
        """The status of the run that lay in the folder when this one was begun."""
        self.now = new_status(time.time())
        if settings:
            self._set(settings=dict(settings))

    def begin(self, phase: str, total: int, done: int = 0, *, trains: bool | None = None) -> None:
        """Says that a phase begins, of which `done` is done already."""
        now = time.time()
        is_training = self.now.trains if trains is None else trains
        self._set(phase=phase, total=total, done=done, first=done, began=now, updated=now, trains=is_training)
        self._write()

    def reach(self, done: int) -> None:
        """Says how much of the phase is done, not more often than anybody looks."""
        self._set(done=done, updated=time.time())
        if self.now.updated - self._written >= _OFTEN or done >= self.now.total:
            self._write()

    def end(self, how: str, message: str = "") -> None:
        """Says that the run has ended, and how."""
        self._set(updated=time.time(), end=how, message=message)
        self._write()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Nothing; when the block ends, for whatever reason, the status says so.

        An attempt that is given up before it trains leaves the status of a run that lies in the folder as it was.
        """
        file = self.folder / STATUS
        is_run = (self.folder / LEDGER).exists()
        self.before = file.read_bytes() if is_run and file.exists() else None
        self._write()
        try:
            yield
        except BaseException as error:
            if is_run and not self.now.trains:
                self._put_back()
            elif isinstance(error, Interrupted | KeyboardInterrupt):
                self.end(INTERRUPTED, str(error) or "stopped by Ctrl-C")
            else:
                self.end(FAILED, first_line(error))
            raise
        self.end(FINISHED)

    def heard(self, track: Track) -> Track:
        """`track`, with each phase but training, which the callback tells of, in the status too."""

        @contextlib.contextmanager
        def both(phase: str, total: int) -> Iterator[Callable[[int], None]]:
            self.begin(phase, total)
            done = 0
            with track(phase, total) as advance:

                def move(count: int) -> None:
                    nonlocal done
                    done += count
                    self.reach(done)
                    advance(count)

                yield move

        return both

    def give_back(self) -> None:
        """Takes note that the folder's files are those of the run before again."""
        self._set(trains=False)

    def _put_back(self) -> None:
        if not self.speaks:
            return
        if self.before is not None:
            write_status(self.folder, self.before)
        else:
            with contextlib.suppress(OSError):
                (self.folder / STATUS).unlink()

    def _set(self, **changes: Any) -> None:
        self.now = self.now.model_copy(update=changes)

    def _write(self) -> None:
        self._written = self.now.updated
        if self.speaks:
            write_status(self.folder, self.now)


class LiveLog(TrainerCallback):
    """Tells of training while it goes on, in any trainer of transformers' family.

    Args:
        teller: Keeps the status.
    """

    def __init__(self, teller: Teller) -> None:
        self.teller = teller
        self._written = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begins the log anew: with what the checkpoint holds of it, if there is one."""
        self.teller.speaks = state.is_world_process_zero
        self._written = len(state.log_history)
        if self.teller.speaks:
            begin_log(self.teller.folder, state.log_history)
        self.teller.begin("training", state.max_steps, state.global_step, trains=True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Tells the step."""
        self.teller.reach(state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Appends the trainer's new entries, of which another callback may have made some on the way."""
        new = state.log_history[self._written :]
        self._written = len(state.log_history)
        if self.teller.speaks and new:
            extend_log(self.teller.folder, new)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Says that the run has ended, if nothing comes after training."""
        self.teller.reach(state.global_step)
        if self.teller.ends_with_training:
            self.teller.end(FINISHED)
