"""HBO in any trainer of transformers' family: attach, measure, update, append, log, restore.

Nothing is subclassed or patched. The callback hands its sampler to the prepared loader, measures between optimizer
steps, and keeps its state in the checkpoint's `trainer_state.json`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hbo.config import HBOConfig
from hbo.core.algorithm import HBO
from hbo.core.ledger import Entry
from hbo.errors import ConfigError, ResumeError
from hbo.folder.ledger import append_record, rewrite_ledger
from hbo.rewards.probe import Probe
from hbo.rewards.streamed import Window
from hbo.scoring.room import never_for_training
from hbo.training import balance_log as logbook
from hbo.training import resume
from hbo.training.attach import check_passes, check_trainer, lag_of, meter_of, parts_of, schedule_of
from hbo.training.best import MeanOfSets
from hbo.training.fit import check_fit
from hbo.training.live_log import LiveLog, Teller
from hbo.training.own_loss import own_loss_config
from hbo.training.processes import check_same, from_first, processes_of, sum_over, tell_of_head
from hbo.training.sampler import HBOSampler
from hbo.training.state import HBOState

logger = logging.getLogger(__name__)


class HBOCallback(TrainerCallback):
    """Balances the mixture that `trainer` trains on.

    The trainer's `train_dataset` needs the columns `hbo_dataset` and `hbo_level` (see `build_mixture`, `stratify`);
    without `hbo_level` every dataset is one group.

    Args:
        trainer: SFTTrainer, or any other trainer of transformers' family.
        config: Method and settings; absent: the paper's.
        weights: Dataset → relative share at the start, instead of its size.
        max_passes: How often each row may be trained on; a group that has had as much leaves its share to the others.
        seed: Key of every draw; absent: the trainer's `data_seed`, else its `seed`.
        fingerprints: Dataset → what stands for its content, in which a resumed run must agree; absent: made of the
            trainer's rows.

    Raises:
        ConfigError: An option of the trainer can't go with balancing.
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
        self.config = own_loss_config(trainer, config or HBOConfig())
        self.weights, self.max_passes = weights, max_passes
        self.fingerprints = fingerprints
        args = trainer.args
        self.seed = seed if seed is not None else args.data_seed if args.data_seed is not None else args.seed
        check_trainer(trainer, self.config)
        check_fit(trainer)
        # Made anew when training begins; made here too, so that a setting that can't work is refused before.
        groups, _ = parts_of(trainer, self.config, self.seed)
        logbook.check_names(groups.datasets)
        HBO(groups, self.config, weights=weights, max_passes=max_passes)
        check_passes(args, len(groups.order_N), max_passes)
        lag_of(self.config.update_lag, args)
        self.say: Callable[[str], None] = logger.info
        """Hears, once, how rewards are measured."""
        self.ready: Callable[[], None] = lambda: None
        """Called when all is measured that training begins with, and nothing is written yet."""
        self.balancer: HBO | None = None
        self.balance_seconds = 0.0
        self.train_seconds = 0.0
        self.tokens = 0  # of all rows trained on, padding not counted
        self.state = HBOState()
        self.live = LiveLog(Teller(Path(args.output_dir)))
        for part in (self.state, self.live):
            trainer.add_callback(part)
        trainer.callback_handler.callbacks.insert(0, MeanOfSets(trainer))  # before whatever looks for `eval_loss`

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Attaches everything; called again when `auto_find_batch_size` starts over."""
        self._let_go()
        loader = kwargs["train_dataloader"]
        self.groups, self.measurer = parts_of(self.trainer, self.config, self.seed)
        self.balancer = HBO(self.groups, self.config, weights=self.weights, seed=self.seed, max_passes=self.max_passes)
        self.schedule = schedule_of(loader, args)
        self.balancer.stream.steps = self.schedule.rows, self.schedule.rows_per_epoch
        self.lag = lag_of(self.config.update_lag, args)
        self.window = self.measurer if isinstance(self.measurer, Window) else None
        self.meter = meter_of(self.trainer, self.groups)
        self.processes = processes_of(self.trainer.accelerator)
        if isinstance(self.measurer, Probe | Window):
            longest = int(self.groups.length_N.max()) if self.groups.length_N is not None else 0
            probe = self.measurer.probe if isinstance(self.measurer, Window) else self.measurer
            probe.sizing.of_training = args.per_device_train_batch_size * longest or None
        self.tokens = 0
        self._pending: dict[str, float] = {}
        self._warned: set[str] = set()
        self.state = self.state.in_use(self.trainer.callback_handler.callbacks)
        self.state.source = self
        if state.global_step:
            self._restore(state)
        elif not self.config.is_static:
            tell_of_head(self.trainer.model)
            with never_for_training():
                self.measurer.measure_reference(self.trainer.model, self.processes)
                said = self.measurer.settle(self.trainer.model, self.processes)
            if state.is_world_process_zero:
                self.say(said)
            self.measurer.load_state_dict(from_first(self.trainer.accelerator, self.measurer.state_dict()))
        self.sampler = HBOSampler(self.balancer.stream, self.schedule)
        loader.set_sampler(self.sampler)
        self._resumed_at = state.global_step
        self.meter.attach(self.trainer.model)
        self.ready()
        if state.is_world_process_zero:
            rewrite_ledger(Path(args.output_dir), self.balancer.ledger.records())
        self._clock = time.perf_counter()

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sets the sampler to where training stands; a resumed trainer throws away what its epoch had before.

        A trainer that resumes from its last step would take one step more, so there it finds no rows.
        """
        done = state.global_step
        skip = done % self.schedule.steps_per_epoch if done == self._resumed_at and not args.ignore_data_skip else 0
        is_over = 0 < state.max_steps <= done
        control.should_training_stop |= is_over
        self.sampler.seek(done - skip, skip=skip, is_over=is_over)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tells the meter whose rows come next."""
        accelerator = self.trainer.accelerator
        rows = self.sampler.consume(state.global_step)
        if self.groups.length_N is not None:
            self.tokens += int(self.groups.length_N[rows].sum())
        size = self.schedule.rows // args.gradient_accumulation_steps // accelerator.num_processes
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        mine = batches[accelerator.process_index :: accelerator.num_processes]
        self.meter.expect(mine)
        if self.window and self.balancer is not None:
            is_due = self.balancer.is_due
            self.window.watch(self.trainer.model, mine, step=state.global_step, is_due=is_due, rows=self.schedule.rows)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measures, updates and appends when an update is due."""
        if self.balancer is None:
            return
        if self.window:
            self.window.step_done(self.processes)
        if not self.balancer.is_due(state.global_step):
            return
        entry = self._update(state.global_step)
        self._pending |= logbook.scalars(self.groups, entry, self.drawn_so_far(state.global_step))
        self._pending["balance/skipped"] = self.balancer.skipped
        control.should_log = True  # the trainer's own line of this step carries ours with it
        if state.is_world_process_zero:
            append_record(Path(args.output_dir), entry.to_record(self.groups.datasets))

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Adds our scalars to the trainer's training log, through the trainer."""
        if "loss" not in (kwargs.get("logs") or {}) or self.balancer is None:
            return
        logbook.warn_repeats(self.groups, self.drawn_so_far(state.global_step), self._warned)
        sums, tokens = sum_over(self.trainer.accelerator)(np.stack(self.meter.read()))
        extra = self._pending | logbook.losses(self.groups, sums, tokens)
        self._pending = {}
        if extra:
            self.trainer.log(extra)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stops listening, and says what a choice that couldn't be measured has cost."""
        self._let_go()
        self.train_seconds += time.perf_counter() - self._clock
        if self.balancer is not None and self.balancer.skipped:
            logbook.warn_skipped(self.balancer.skipped)

    def _let_go(self) -> None:
        if self.balancer is not None:
            self.meter.detach()
            if self.window:
                self.window.close()

    def _update(self, step: int) -> Entry:
        assert self.balancer is not None
        began = time.perf_counter()
        accelerator = self.trainer.accelerator
        with never_for_training():
            rewards = self.measurer.measure(self.trainer.model, step, self.processes)
        rewards = from_first(accelerator, rewards)
        start = self.schedule.position(step + 1 + self.lag)
        if step + 1 + self.lag < self.sampler.drawn_steps:
            raise ConfigError(
                f"the loader has drawn {self.sampler.drawn_steps - step} steps ahead, which update_lag {self.lag} "
                "does not allow; set balance.update_lag higher"
            )
        entry = self.balancer.update(
            rewards,
            step=step,
            start=start,
            drawn_KL=self._drawn_since_entry(step),
            seconds=time.perf_counter() - began + (self.window.spent() if self.window else 0),
        )
        self.balance_seconds += entry.seconds
        check_same(accelerator, self.balancer.ledger, step)
        return entry

    def _drawn_since_entry(self, step: int) -> np.ndarray:
        assert self.balancer is not None
        last = self.balancer.ledger[-1].step
        return self.balancer.stream.counts(self.schedule.position(last), self.schedule.position(step))

    def drawn_so_far(self, step: int) -> np.ndarray:
        """Rows of each group (K, L) that the first `step` optimizer steps took; valid once training has begun."""
        assert self.balancer is not None
        return self.balancer.stream.counts(0, self.schedule.position(step))

    def snapshot(self) -> dict[str, Any] | None:
        """All that a checkpoint must hold, as JSON values; None before training begins."""
        if self.balancer is None:
            return None
        step = self.trainer.state.global_step
        return {
            "balancer": self.balancer.state_dict(),
            "stream": self.balancer.stream.state_dict(self.schedule.position(step)),
            "lag": self.lag,
            "schedule": [self.schedule.rows, self.schedule.steps_per_epoch, self.schedule.last_rows],
            "processes": self.trainer.accelerator.num_processes,
            "data": self._content(),
            "tokens": self.tokens,
            "rewards": self.measurer.state_dict(),
            "balance_seconds": self.balance_seconds,
            "train_seconds": self.train_seconds + time.perf_counter() - self._clock,
        }

    def _content(self) -> dict[str, str]:
        # Made when the first checkpoint needs it: it reads every row.
        if self.fingerprints is None:
            self.fingerprints = resume.fingerprints(self.trainer.train_dataset)
        return dict(self.fingerprints)

    def _restore(self, state: TrainerState) -> None:
        assert self.balancer is not None
        saved = (state.stateful_callbacks or {}).get("HBOState")
        snapshot = saved["attributes"]["snapshot"] if saved else None
        if snapshot is None:
            raise ResumeError(
                f"the checkpoint of step {state.global_step} was made without HBO; begin a new run, or resume from a "
                "checkpoint that an HBOCallback has seen"
            )
        if snapshot["schedule"][0] != self.schedule.rows:
            raise ResumeError(
                f"the checkpoint's steps have {snapshot['schedule'][0]} rows, but this run's have "
                f"{self.schedule.rows}; keep batch size × accumulation × processes as it was"
            )
        resume.check_data(snapshot["data"], self._content(), {})
        if self.lag > snapshot["lag"] and self.config.update_lag is None:
            raise ResumeError(
                f"the checkpoint's update_lag is {snapshot['lag']}, but this loader needs at least {self.lag}; resume "
                "with as few dataloader workers as at the first start"
            )
        self.lag = int(snapshot["lag"])
        self.balancer.load_state_dict(snapshot["balancer"])
        self.balancer.stream.load_state_dict(snapshot["stream"])
        self.measurer.load_state_dict(snapshot["rewards"])
        drawn_KL = self._drawn_since_entry(state.global_step)
        self.balancer.restage(
            step=state.global_step, start=self.schedule.position(state.global_step), drawn_KL=drawn_KL
        )
        self.tokens = snapshot["tokens"]
        self.balance_seconds = snapshot["balance_seconds"]
        self.train_seconds = snapshot["train_seconds"]
