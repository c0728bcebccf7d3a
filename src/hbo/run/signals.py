"""SIGTERM, Ctrl-C and a file: finish the step, save a checkpoint, then stop. A second signal stops at once."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hbo.scoring.processes import Processes


class StopOnSignal(TrainerCallback):
    """Turns the first signal into an orderly stop of `trainer`.

    Args:
        trainer: What is stopped.
        file: Stops it too, once it is there, and is removed; None: no file does.
    """

    def __init__(self, trainer: Trainer, file: Path | None = None) -> None:
        self.trainer, self.file = trainer, file
        self.received: signal.Signals | None = None
        """What stopped training, if anything."""
        self._saved = 0
        self._before: dict[signal.Signals, Any] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Starts listening."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before.setdefault(number, signal.signal(number, self._note))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Saves and stops if a signal has come, to any process, or the file."""
        if self.file is not None and state.is_world_process_zero and self.file.exists():
            self.file.unlink(missing_ok=True)
            self.received = self.received or signal.SIGTERM
        if self._any_process_stops():
            self.received = self.received or signal.SIGTERM
            control.should_save = True
            control.should_training_stop = True
            if args.save_total_limit == 1:
                args.save_total_limit = 2  # at its end training removes all but the best, if that is another

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Remembers that this step is saved."""
        self._saved = state.global_step

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Saves after all, where an evaluation in between has found that the step isn't the best (`save_strategy`)."""
        control.should_save |= self.received is not None and self._saved != state.global_step

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stops listening."""
        self._restore()

    def _note(self, number: int, frame: Any) -> None:
        self.received = signal.Signals(number)
        self._restore()  # the next one does what it always did

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _any_process_stops(self) -> bool:
        # A signal reaches the processes at different steps; they must stop at the same one.
        return Processes.of(self.trainer.accelerator).any(self.received is not None)
