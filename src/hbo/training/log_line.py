"""HBO's scalars in the trainer's own log, which has the entries that it would have without HBO.

The trainer's entry of a step carries those of the latest update, in its history and to the trackers. After an update at
another step the trackers are told at once. Nothing is logged through the trainer's
own `log`, which would average and empty the records that its next entry is made of. Where the trainer is told to log
nothing, neither does HBO; the ledger has it all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class JoinedLog(TrainerCallback):
    """Adds scalars to the trainer's entries of the training loss; to be called before whatever reads entries.

    Args:
        scalars: What there is to say after so many steps; every process must ask alike.
    """

    def __init__(self, scalars: Callable[[int], dict[str, float]]) -> None:
        self.scalars = scalars
        self._told: dict[str, float] = {}  # to the trackers, and not in the history yet

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Puts them into what the trackers get and into what the trainer keeps."""
        logs = kwargs.get("logs") or {}
        if "loss" not in logs:
            return
        found, self._told = self._told | self.scalars(state.global_step), {}
        logs.update(found)
        join_entry(state, found)

    def tell(self, trainer: Trainer, scalars: dict[str, float]) -> None:
        """Tells the trackers of an update at a step of which the trainer makes no entry."""
        if trainer.args.logging_strategy != "no":
            self._told = scalars
            tell_trackers(trainer, scalars)


def join_entry(state: TrainerState, scalars: dict[str, float]) -> None:
    """Adds to the entry of this step in the trainer's history, if it has just made one."""
    if state.log_history and state.log_history[-1].get("step") == state.global_step:
        state.log_history[-1].update(scalars)


def tell_trackers(trainer: Trainer, scalars: dict[str, float]) -> None:
    """Tells whoever hears the log, without an entry in the history and without emptying the trainer's records."""
    trainer.callback_handler.on_log(trainer.args, trainer.state, trainer.control, dict(scalars))


def will_log(args: TrainingArguments, state: TrainerState, control: TrainerControl, steps_per_epoch: int) -> bool:
    """Whether the trainer makes an entry of the step that has just ended."""
    done = state.global_step
    ends_epoch = done % steps_per_epoch == 0 or done >= state.max_steps
    return bool(control.should_log or (args.logging_strategy == "epoch" and ends_epoch))
