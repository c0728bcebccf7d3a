"""HBO in a training that has begun.

row numbers     sampler  → the loader; each step takes a window of the stream
training loss   meter    ← hooks on the passes that train anyway
rewards         measurer ← between steps, or off the training batches
probabilities   balancer → the stream, from a step on that the loader hasn't drawn yet
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from hbo.arrays import Ints
from hbo.config import HBOConfig
from hbo.config.rewards import is_of_the_run, needs
from hbo.core.algorithm import HBO
from hbo.core.groups import Groups
from hbo.core.ledger import Entry
from hbo.data.tokens import opening
from hbo.errors import ConfigError, HBOError, ResumeError
from hbo.rewards.choose import measurer_for
from hbo.rewards.clock import Clock
from hbo.rewards.measurer import Measurer, Standing, Step
from hbo.rewards.objective import OwnLossProbe
from hbo.scoring.processes import Processes
from hbo.scoring.room import never_for_training
from hbo.training import balance_log
from hbo.training.generated import PromptProbe
from hbo.training.group_losses import Meter, NoMeter, ReplayMeter
from hbo.training.groups import drawn_groups
from hbo.training.loader import repeats_in, schedule_of, wanted_repeats
from hbo.training.own_loss import TrainerLoss, is_of_class
from hbo.training.parallel import tell_deepspeed_of_head
from hbo.training.sampler import HBOSampler
from hbo.training.trainer_rows import labelled
from hbo.training.ways import Way, way_of

_REPLAYED = frozenset({"trl.trainer.dpo_trainer.DPOTrainer"})


class Balancing:
    """All that an HBOCallback holds of one training, made when it begins.

    Args:
        trainer: Its rows, model and arguments.
        loader: The trainer's, prepared; nothing has been drawn from it.
        config: Method and settings.
        seed: Key of every draw.
        way: How the trainer's rows are measured.
        table: Dataset and level of each row.
        options: `weights` and `max_passes` of `HBO`.

    Attributes:
        tokens: Of all rows trained on, padding not counted.
        balance_seconds: Updates, with what reading rewards off the training batches took.
        train_seconds: Training with its updates.
    """

    def __init__(
        self,
        trainer: Trainer,
        loader: Any,
        config: HBOConfig,
        *,
        seed: int,
        way: Way,
        table: Dataset,
        **options: Any,
    ) -> None:
        args = trainer.args
        self.trainer, self.config = trainer, config
        self.groups, self.measurer = parts_of(trainer, config, seed, way, table)
        self.balancer = HBO(self.groups, config, seed=seed, **options)
        self._is_repeated = (repeats := repeats_in(trainer, loader)) is not None
        self.schedule = schedule_of(loader, args.gradient_accumulation_steps, repeats)
        self.sampler = HBOSampler(self.balancer.stream, self.schedule)
        self.lag = lag_of(config.update_lag, args)
        self.meter = meter_of(trainer, self.groups, way)
        self.processes = Processes.of(trainer.accelerator)
        self.tokens = 0
        self.balance_seconds = 0.0
        self._trained = 0.0  # seconds before this process began to train, or in all once it has stopped
        self._since: float | None = None
        self._watching = 0.0  # seconds since the last update
        self._resumed_at = 0
        self._scalars: dict[str, float] = {}  # for the log's next line
        self._warned: set[str] = set()

    @property
    def train_seconds(self) -> float:
        """Seconds of training until now, those before a resumption among them."""
        return self._trained + (0.0 if self._since is None else time.perf_counter() - self._since)

    def settle(self) -> str:
        """Measures the untuned model, and tries all that an update does; how that will be done, in a sentence."""
        tell_deepspeed_of_head(self.trainer.model)
        with never_for_training():
            self.measurer.measure_reference(self.trainer.model, self.processes)
            said = self.measurer.settle(self.trainer.model, self.processes)
        self.measurer.load_state_dict(self.processes.from_first(self.measurer.state_dict()))
        return said

    def start(self) -> None:
        """Starts the clock."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Stops the clock and lets go of the model."""
        self._trained, self._since = self.train_seconds, None
        self.meter.close()
        self.measurer.close()

    def begin_epoch(self, done: int, *, is_over: bool) -> None:
        """Sets the sampler to where training stands; a resumed trainer throws away what its epoch had before."""
        is_skipping = done == self._resumed_at and not self.trainer.args.ignore_data_skip
        skip = done % self.schedule.steps_per_epoch if is_skipping else 0
        self.sampler.seek(done - skip, skip=skip, is_over=is_over)

    def before_step(self, done: int) -> None:
        """Tells the watchers whose rows come next."""
        rows = self.sampler.consume(done)
        if self.groups.length_N is not None:
            self.tokens += int(self.groups.length_N[rows].sum())
        if self._is_repeated:
            return  # what the model is given then isn't the rows: completions of earlier steps come again, shuffled
        rank, count = self.processes.rank, self.processes.count
        size = self.schedule.rows // self.trainer.args.gradient_accumulation_steps // count
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        step = Step(done, batches[rank::count], self.schedule.rows, self.balancer.is_due)
        self.meter.before_step(self.trainer.model, step)
        self.measurer.before_step(self.trainer.model, step)

    def after_step(self, done: int) -> Entry | None:
        """Measures and updates when an update is due; the ledger's new entry.

        Raises:
            ConfigError: The loader has drawn further ahead than the lag allows.
            HBOError: The processes no longer hold the same ledger; training on would draw different mixtures.
        """
        self.meter.after_step(self.processes)
        self._watching += self.measurer.after_step(self.processes)
        if not self.balancer.is_due(done):
            return None
        entry = self._update(done)
        self._scalars |= balance_log.scalars(self.groups, entry, self.drawn(0, done))
        self._scalars["balance/skipped"] = self.balancer.skipped
        balance_log.warn_repeats(self.groups, self.drawn(0, done), self._warned)
        return entry

    def update_scalars(self) -> dict[str, float]:
        """What no line of the log has said yet of the last update."""
        found, self._scalars = self._scalars, {}
        return found

    def log_scalars(self, done: int) -> dict[str, float]:
        """What the log's next line says of the balancing; warns of rows that are seen very often."""
        balance_log.warn_repeats(self.groups, self.drawn(0, done), self._warned)
        sums, counts = self.processes.total(np.stack(self.meter.read()))
        return self.update_scalars() | balance_log.losses(self.groups, sums, counts)

    def drawn(self, first: int, last: int) -> Ints:
        """Rows of each group (K, L) that the optimizer steps from `first` until before `last` take."""
        return self.balancer.stream.counts(self.schedule.position(first), self.schedule.position(last))

    def _update(self, done: int) -> Entry:
        began = time.perf_counter()
        self.measurer.before_update(Standing(done, self.trainer.state.max_steps, self.drawn(0, done)))
        with never_for_training():
            rewards = self.measurer.measure(self.trainer.model, done, self.processes)
        rewards = self.processes.from_first(rewards)
        first = done + 1 + self.lag  # the step that is the first to be drawn with the new probabilities
        if first < self.sampler.drawn_steps:
            raise ConfigError(
                f"the loader has drawn {self.sampler.drawn_steps - done} steps ahead, which update_lag {self.lag} "
                "does not allow; set balance.update_lag higher"
            )
        entry = self.balancer.update(
            rewards,
            step=done,
            start=self.schedule.position(first),
            drawn_KL=self._drawn_since_entry(done),
            seconds=time.perf_counter() - began + self._watching,
        )
        self._watching = 0.0
        self.balance_seconds += entry.seconds
        if not self.processes.agree(self.balancer.ledger.digest()):
            raise HBOError(
                f"the processes disagree about the sampling probabilities at step {done}; check that all of them run "
                "the same code on the same data, then resume from the last checkpoint"
            )
        return entry

    def _drawn_since_entry(self, done: int) -> Ints:
        return self.drawn(self.balancer.ledger[-1].step, done)

    def snapshot(self, done: int) -> dict[str, Any]:
        """All that `restore` needs, as JSON values."""
        return {
            "balancer": self.balancer.state_dict(),
            "stream": self.balancer.stream.state_dict(self.schedule.position(done)),
            "lag": self.lag,
            "schedule": self.schedule.saved(),
            "processes": self.processes.count,
            "tokens": self.tokens,
            "rewards": self.measurer.state_dict(),
            "balance_seconds": self.balance_seconds,
            "train_seconds": self.train_seconds,
        }

    def restore(self, snapshot: Mapping[str, Any], done: int) -> None:
        """Goes on from where `snapshot` was made.

        Raises:
            ResumeError: The steps have another size now, the loader looks further ahead, or rewards are measured in
                another way.
        """
        if not self.schedule.is_as(snapshot["schedule"]):
            raise ResumeError(self.schedule.unlike(snapshot["schedule"]))
        if self.lag > snapshot["lag"] and self.config.update_lag is None:
            raise ResumeError(
                f"the checkpoint's update_lag is {snapshot['lag']}, but this loader needs at least {self.lag}; resume "
                "with as few dataloader workers as at the first start"
            )
        self.lag = int(snapshot["lag"])  # never computed anew: later entries would begin elsewhere
        self.balancer.load_state_dict(snapshot["balancer"])
        self.balancer.stream.load_state_dict(snapshot["stream"])
        self.sampler.stream = self.balancer.stream  # loading has made a new one
        try:
            self.measurer.load_state_dict(snapshot["rewards"])
        except KeyError as error:  # what this way of measuring writes down, and the other didn't
            raise ResumeError(
                f"until the checkpoint, rewards were measured in another way, which noted no {error}; resume with the "
                "trainer, the loss and the rewards of the first start, or begin a new run"
            ) from None
        start = self.schedule.position(done)
        self.balancer.restage(step=done, start=start, drawn_KL=self._drawn_since_entry(done))
        self.tokens = snapshot["tokens"]
        self.balance_seconds, self._trained = snapshot["balance_seconds"], snapshot["train_seconds"]
        self._resumed_at = done


def parts_of(
    trainer: Trainer, config: HBOConfig, seed: int, way: Way | None = None, table: Dataset | None = None
) -> tuple[Groups, Measurer]:
    """What a trainer's rows are drawn from, and what measures the rewards on them.

    Args:
        trainer: With its rows.
        config: Method and settings.
        seed: Key of every draw.
        way: How the rows are measured, if that is known.
        table: Dataset and level of each row, if these have been read.

    Raises:
        ConfigError: A reward isn't known, or can't be measured in the way asked for.
        DataError: The rows aren't labelled as they must be.
        ModelError: A reward asks for what the tokenizer lacks.
    """
    if is_of_the_run(config.global_reward):
        groups, inner = parts_of(trainer, config.model_copy(update={"global_reward": None}), seed, way, table)
        return groups, Clock(inner, is_static=config.is_static)
    rows, tokenizer = trainer.train_dataset, trainer.processing_class
    is_opening_needed = "without_instruction" in needs(config.global_reward, config.local_reward)
    groups, dev_K = drawn_groups(labelled(rows) if table is None else table, config, seed)
    if not config.is_static and wanted_repeats(trainer) is not None:
        return groups, PromptProbe(trainer, groups, config, seed=seed)
    way = way or way_of(trainer, is_tried=not config.is_static)
    if way.alone is not None:
        return groups, OwnLossProbe(TrainerLoss(trainer), groups, config, seed=seed)
    longest = 0 if groups.length_N is None else int(groups.length_N.max())
    measurer = measurer_for(
        rows,
        groups,
        config,
        pad_token_id=int(getattr(tokenizer, "pad_token_id", None) or 0),  # any will do, since padding is masked
        seed=seed,
        dev_K=dev_K,
        opening=opening(tokenizer) if is_opening_needed else (),
        training_tokens=trainer.args.per_device_train_batch_size * longest or None,
    )
    return groups, measurer


def meter_of(trainer: Trainer, groups: Groups, way: Way) -> Meter:
    """What reads the training loss of each group off the trainer's passes."""
    if way.is_token_mean and not way.is_from_encoder:
        return Meter(groups)
    # Before it had this attribute, TRL's loss was made of more than a pass's log-probabilities.
    is_precomputed = getattr(trainer, "precompute_ref_logps", None)
    if not is_of_class(trainer, _REPLAYED) or is_precomputed is None:
        return NoMeter(groups)
    return ReplayMeter(TrainerLoss(trainer), groups, is_referred=not is_precomputed)


def lag_of(wanted: int | None, args: TrainingArguments) -> int:
    """Whole steps between an update and its first draw; absent: the least that the loader's prefetch allows.

    Raises:
        ConfigError: Fewer than that were asked for.
    """
    workers = args.dataloader_num_workers
    prefetch = workers * (args.dataloader_prefetch_factor or 2) if workers else 0
    # accelerate looks one batch ahead on top of the workers; the +1 of `step + 1 + lag` pays for one whole step.
    least = -(-(1 + prefetch) // args.gradient_accumulation_steps) - 1
    if wanted is not None and wanted < least:
        raise ConfigError(
            f"balance.update_lag is {wanted}, but with {workers} dataloader workers rows are drawn ahead and an update "
            f"can take effect after {least} steps at the earliest; set it to {least} or more, or use fewer workers"
        )
    return least if wanted is None else wanted
