"""HBO in any trainer of transformers' family: each event of the trainer becomes a call to `Balancing`.

Nothing is subclassed or patched. The callback hands its sampler to the prepared loader, measures between optimizer
steps, and keeps its state in the checkpoint's `trainer_state.json`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hbo.compat import loses_last_step
from hbo.config import HBOConfig
from hbo.core.algorithm import HBO
from hbo.errors import HBOError, ResumeError
from hbo.folder.ledger import append_record, rewrite_ledger
from hbo.training import balance_log
from hbo.training.balancing import Balancing, lag_of, parts_of
from hbo.training.best import MeanOfSets
from hbo.training.checks import check_max_passes, check_rows_fit, check_trainer
from hbo.training.generated import generated_config
from hbo.training.live_log import LiveLog, Teller, settings_of
from hbo.training.log_line import JoinedLog, will_log
from hbo.training.measurable import measured_config
from hbo.training.own_columns import hide_our_columns
from hbo.training.state import HBOState, check_data, fingerprints, saved_snapshot
from hbo.training.trainer_rows import labelled
from hbo.training.ways import way_of

logger = logging.getLogger(__name__)


class HBOCallback(TrainerCallback):
    """Balances the mixture that `trainer` trains on.

    The trainer's `train_dataset` needs the columns `hbo_dataset` and `hbo_level` (see `build_mixture`, `stratify`);
    without `hbo_level` every dataset is one group. In a torch dataset they are keys of each item.

    Args:
        trainer: SFTTrainer, or any other trainer of transformers' family whose rows have a loss by themselves.
        config: Method and settings; absent: the paper's.
        weights: Dataset → relative share at the start, instead of its size.
        max_passes: How often each row may be trained on; a group that reaches it gives its share to the others.
        seed: Seed of all draws; absent: the trainer's `data_seed`, else its `seed`.
        fingerprints: Dataset → a hash of its content, which must be the same when a run is resumed; absent: computed
            from the trainer's rows.

    Raises:
        ConfigError: An option of the trainer is incompatible with balancing.
        DataError: The trainer's rows don't say which dataset they belong to.
        ModelError: They hold tokens that the model has no embedding for, or more of them than it has positions.
    """

    def __init__(
        self,
        trainer: Trainer,
        config: HBOConfig | None = None,
        *,
        weights: Mapping[str, float] | None = None,
        max_passes: int | None = None,
        seed: int | None = None,
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        self.trainer = trainer
        config = config or HBOConfig()
        self.weights, self.max_passes, self.fingerprints = weights, max_passes, fingerprints
        args = trainer.args
        self.seed = seed if seed is not None else args.data_seed if args.data_seed is not None else args.seed
        repeats = check_trainer(trainer, config)
        check_rows_fit(trainer)
        self._rows = trainer.train_dataset
        self._table = labelled(self._rows)
        hide_our_columns(trainer)
        self._way = way_of(trainer, is_tried=not config.is_static)
        self.config = (
            measured_config(trainer, config, self._way) if repeats is None else generated_config(trainer, config)
        )
        # Made anew when training begins; made here too, so that a setting that can't work is refused before.
        self.groups, _ = parts_of(trainer, self.config, self.seed, self._way, self._table)
        """Groups of the trainer's rows."""
        balance_log.check_names(self.groups.datasets)
        HBO(self.groups, self.config, weights=weights, max_passes=max_passes)
        check_max_passes(args, len(self.groups.order_N), max_passes, repeats)
        lag_of(self.config.update_lag, args)
        self.say: Callable[[str], None] = logger.info
        """Called once with a sentence that says how rewards are measured."""
        self.ready: Callable[[], None] = lambda: None
        """Called when the measurements before the first step are done and nothing is written yet."""
        self.state = HBOState()
        told = settings_of(self.config, model=trainer.model, seed=self.seed)
        self.live = LiveLog(Teller(Path(args.output_dir), settings=told))
        self._log = JoinedLog(self._log_scalars)
        self._balancing: Balancing | None = None
        for part in (self.state, self.live):
            trainer.add_callback(part)
        # Before whatever looks for `eval_loss`, and whatever is given the log.
        trainer.callback_handler.callbacks[:0] = [MeanOfSets(trainer), self._log]

    @property
    def balancing(self) -> Balancing:
        """HBO in the latest training.

        Raises:
            HBOError: No training has begun.
        """
        if self._balancing is None:
            raise HBOError("nothing has been balanced yet; call trainer.train() first")
        return self._balancing

    @property
    def balancer(self) -> HBO:
        """The method with its ledger; this and the properties below need a training that has begun."""
        return self.balancing.balancer

    @property
    def tokens(self) -> int:
        """Tokens trained on, without padding."""
        return self.balancing.tokens

    @property
    def train_seconds(self) -> float:
        """Seconds of training, updates included."""
        return self.balancing.train_seconds

    @property
    def balance_seconds(self) -> float:
        """Seconds of updates, including the time to read rewards from training batches."""
        return self.balancing.balance_seconds

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Attaches everything; called again when `auto_find_batch_size` starts over."""
        if self._balancing is not None:
            self._balancing.stop()
        loader = kwargs["train_dataloader"]
        if self.trainer.train_dataset is not self._rows:  # somebody has put others there
            self._rows = self.trainer.train_dataset
            self._table = labelled(self._rows)
        begun = Balancing(
            self.trainer,
            loader,
            self.config,
            seed=self.seed,
            way=self._way,
            table=self._table,
            weights=self.weights,
            max_passes=self.max_passes,
        )
        self._balancing, self.groups = begun, begun.groups
        self.state = self.state.in_use(self.trainer.callback_handler.callbacks)
        self.state.source = self
        if state.global_step:
            snapshot = saved_snapshot(state)
            check_data(snapshot["data"], self._content(), {})
            begun.restore(snapshot, state.global_step)
            if loses_last_step() and begun.schedule.is_cut(state.global_step, state.max_steps):
                raise ResumeError(
                    "resumed here, transformers before 4.57 leaves out the epoch's last step, which has fewer batches "
                    "than gradient_accumulation_steps; install transformers 4.57 or later, which takes this "
                    "checkpoint, or resume from one at the end of an epoch"
                )
        elif not self.config.is_static:
            said = begun.settle()
            if state.is_world_process_zero:
                self.say(said)
        loader.set_sampler(begun.sampler)
        self.ready()
        if state.is_world_process_zero:
            rewrite_ledger(Path(args.output_dir), begun.balancer.ledger.records())
        begun.start()

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sets the sampler to where training stands.

        A trainer that resumes from its last step would take one step more, so there it finds no rows.
        """
        is_over = 0 < state.max_steps <= state.global_step
        control.should_training_stop |= is_over
        self.balancing.begin_epoch(state.global_step, is_over=is_over)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes note of the rows of the next step, for the log and for rewards from training batches."""
        self.balancing.before_step(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measures, updates and appends when an update is due."""
        entry = self.balancing.after_step(state.global_step)
        if entry is None:
            return
        if state.is_world_process_zero:
            append_record(Path(args.output_dir), entry.to_record(self.groups.datasets))
        if not will_log(args, state, control, self.balancing.schedule.steps_per_epoch):
            self._log.tell(self.trainer, self.balancing.update_scalars())

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Removes all hooks, and warns of rewards that couldn't be measured."""
        self.balancing.stop()
        if self.balancer.skipped:
            balance_log.warn_skipped(self.balancer.skipped)

    def drawn_so_far(self, step: int) -> np.ndarray:
        """Rows of each group (K, L) that the first `step` optimizer steps took; valid once training has begun."""
        return self.balancing.drawn(0, step)

    def snapshot(self) -> dict[str, Any] | None:
        """All that a checkpoint must hold, as JSON values; None before training begins."""
        if self._balancing is None:
            return None
        return {**self._balancing.snapshot(self.trainer.state.global_step), "data": self._content()}

    def _log_scalars(self, step: int) -> dict[str, float]:
        return {} if self._balancing is None else self._balancing.log_scalars(step)

    def _content(self) -> dict[str, str]:
        # Made when the first checkpoint needs it: it reads every row.
        if self.fingerprints is None:
            self.fingerprints = fingerprints(self._table)
        return dict(self.fingerprints)
