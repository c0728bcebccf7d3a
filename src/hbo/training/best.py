"""One number over several evaluation sets, for what wants one: the best checkpoint, a plateau, early stopping.

A trainer that is given a set for each dataset knows `eval_<dataset>_loss` and no `eval_loss`, after which these options
look by default.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from datasets import Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hbo.data.mixture import dataset_sizes
from hbo.errors import ConfigError
from hbo.text import nearest
from hbo.training.log_line import join_entry, tell_trackers

MEAN = "eval_loss"
_OF_EACH = ("loss", "runtime", "samples_per_second", "steps_per_second")
_OF_ALL = (MEAN, "eval_mean_token_accuracy", "eval_entropy", "eval_aux_loss")
_RUNNING = "eval_num_tokens"  # counts on from set to set


def evaluated(held_out: Dataset) -> list[str]:
    """The datasets that have held-out rows; each is an evaluation set."""
    return list(dataset_sizes(held_out)) if len(held_out) else []


def check_metric(args: TrainingArguments, datasets: Sequence[str]) -> None:
    """Refuses to choose by a number that no evaluation of these datasets will give; the trainer finds out afterwards.

    Raises:
        ConfigError: Says which numbers there are.
    """
    saves_best, evaluates, metric = args.save_strategy == "best", args.eval_strategy != "no", args.metric_for_best_model
    if saves_best and not evaluates:
        raise ConfigError(
            "train.save_strategy is best, but nothing is evaluated during training, so nothing would ever be saved; "
            "set train.eval_strategy too (steps or epoch)"
        )
    if saves_best and metric is None:
        raise ConfigError(
            "train.save_strategy is best, which needs train.metric_for_best_model; eval_loss is the mean over all "
            "datasets"
        )
    if not evaluates:
        return
    if not datasets and metric is not None:
        raise ConfigError(
            f"train.metric_for_best_model is {metric}, but no rows are held out to measure it on; set "
            "mixture.eval_fraction above 0"
        )
    if not datasets:
        warnings.warn(
            f"train.eval_strategy is {args.eval_strategy.value}, but no rows are held out (mixture.eval_fraction), so "
            "nothing is evaluated",
            UserWarning,
            stacklevel=2,
        )
        return
    known = [*_OF_ALL, _RUNNING, *(f"eval_{name}_{kind}" for kind in _OF_EACH for name in datasets)]
    if metric is not None and metric not in known and f"eval_{metric}" not in known:
        losses = ", ".join(f"eval_{name}_loss" for name in datasets[:20])
        raise ConfigError(
            f"train.metric_for_best_model is {metric}, but evaluation doesn't produce "
            f"it{nearest(metric, known)}; choose "
            f"{MEAN} (the mean over all datasets) or one of {losses}"
        )


class MeanOfSets(TrainerCallback):
    """Adds to a trainer's evaluation of several sets the mean of their losses, as `eval_loss`.

    Each set counts the same. Numbers without a set's name, such as TRL's `eval_mean_token_accuracy`, would be those of
    the last set; they become means too. To be called before whatever looks at them.

    Args:
        trainer: Whose `eval_dataset` may be a mapping.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._found: dict[str, dict[str, float]] = {}

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: dict[str, float]
    ) -> None:
        """Takes note of one set, and adds the means to the last, from which they reach the trainer."""
        metrics, given = kwargs["metrics"], self.trainer.eval_dataset
        sets = given if isinstance(given, Mapping) else {}
        name = next((name for name in sets if f"eval_{name}_loss" in metrics), None)
        if name is None:
            return
        if name in self._found:  # the round before wasn't ended
            self._found = {}
        self._found[name] = {**metrics}
        if len(self._found) < len(sets):
            return
        means = {MEAN: [each[f"eval_{name}_loss"] for name, each in self._found.items()]}
        for key in metrics:
            if key.startswith("eval_") and key != _RUNNING and all(key in each for each in self._found.values()):
                means.setdefault(key, [each[key] for each in self._found.values()])
        self._found = {}
        metrics.update({key: float(np.mean(values)) for key, values in means.items()})
        # Into the trainer's entry of the last set, so that its history has as many as without HBO. The trackers have
        # been told of that entry already.
        mean = {MEAN: metrics[MEAN]}
        join_entry(state, mean)
        tell_trackers(self.trainer, mean)
