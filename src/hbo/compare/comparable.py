"""Whether a run may stand beside the others of a grid: it has the same budget and the same held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hbo.config import RunConfig
from hbo.errors import ConfigError
from hbo.run.rehearsal import checked_settings

SAME_ROWS = "all runs are judged by the same held-out rows; make a grid for each value"
"""Why a key that chooses rows can't be varied."""
_BUDGET = (
    "global_batch_size",
    "train.max_steps",
    "train.num_train_epochs",
    "train.per_device_train_batch_size",
    "train.gradient_accumulation_steps",
    "train.seed",
)
_CUTS = ("train.max_length", "train.truncation_mode", "train.chat_template_path", "train.eos_token")
_EPOCHS = ("mixture.train_fraction", "train.packing", "train.packing_strategy", "train.dataloader_drop_last")


def check_comparable(run: RunConfig, own: RunConfig, varied: Sequence[str]) -> None:
    """Refuses a run with another budget or other held-out rows than CONFIG's, or that the trainer would refuse.

    Args:
        run: Of the grid.
        own: CONFIG, both with values as `typed` leaves them.
        varied: The keys in which they may differ.

    Raises:
        ConfigError: It can't stand beside the others, or TRL or PEFT would refuse it.
    """

    def differing(keys: Sequence[str]) -> list[str]:
        return [key for key in keys if _value(run, key) != _value(own, key)]

    for key in differing(_BUDGET):
        raise ConfigError(f"--vary {key}: all runs have the same budget of steps; make a grid for each value")
    for key in differing(_CUTS):
        raise ConfigError(f"--vary {key}: it changes the held-out rows too; make a grid for each value")
    for key in differing(["mixture.eval_fraction"]):
        raise ConfigError(f"--vary {key}: {SAME_ROWS}")
    # A dataset `x.weight` could be given other rows by a key that looks like the weight of a dataset x.
    if _without_weights(run) != _without_weights(own):
        raise ConfigError(f"--vary {next(key for key in varied if key.startswith('mixture.datasets'))}: {SAME_ROWS}")
    _, args, _ = checked_settings(run)
    for key in differing(_EPOCHS) if args.max_steps <= 0 else ():
        raise ConfigError(
            f"--vary {key}: it changes the number of steps in an epoch, but all runs must have the same number; set "
            "train.max_steps in CONFIG"
        )


def _value(run: RunConfig, key: str) -> Any:
    section, _, name = key.rpartition(".")
    found = getattr(run, section) if section else run
    return found.get(name) if isinstance(found, dict) else getattr(found, name)


def _without_weights(run: RunConfig) -> dict[str, object]:
    return {name: entry.model_copy(update={"weight": None}) for name, entry in run.mixture.datasets.items()}
