"""A whole run: configuration in, run folder out. The only place that knows TRL's trainer.

check       configuration, packages, folder and Hub, before anything is read
read        the model's tokenizer and the rows
group       rows are scored by the untuned model, sorted into groups, perhaps packed
measure     the untuned model on the held-out rows
train       another run in the folder is set aside at the last moment, when all that can fail has been tried
finish      the model is saved and measured; metrics, report and model card are written; it is pushed
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import SFTConfig, SFTTrainer

from hbo.atomic import write_file
from hbo.compat import hides_token_losses
from hbo.config import RunConfig
from hbo.config.file import dump, load
from hbo.data.chat import example_prompt
from hbo.errors import ConfigError, Interrupted
from hbo.folder import paths as run_folder
from hbo.progress import Hear, Lap, Track, silent, unheard
from hbo.run.arguments import draw_seed, for_trainer, steps_of
from hbo.run.compact_head import targets_only
from hbo.run.finish import check_hub, metrics_of, push, without_tokens, write_results
from hbo.run.held_out_scores import ByDataset, HeldOut
from hbo.run.mixture_file import mixture_of
from hbo.run.model import FoundModel, find_model, load_weights, quiet_libraries
from hbo.run.rehearsal import check_model, checked_settings
from hbo.run.resume import check_config
from hbo.run.rows import Data, paths_of, plain_template_of, read_data, weights_of
from hbo.run.saving import WithoutCards, save_model, saving_to
from hbo.run.scored_rows import grouped, needs_scores, scored
from hbo.run.signals import StopOnSignal
from hbo.run.takeover import Takeover, recover
from hbo.scoring.devices import device_told, to_device
from hbo.scoring.processes import all_processes
from hbo.scoring.scores import Scores
from hbo.training.best import check_metric, evaluated
from hbo.training.callback import HBOCallback
from hbo.training.live_log import Teller
from hbo.training.packing import as_drawn
from hbo.training.state import check_data, fingerprints

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Run:
    """What every step needs to know of the run."""

    config: RunConfig
    args: SFTConfig
    lora: LoraConfig | None
    folder: Path
    checkpoint: Path | None
    """What training goes on from, if anything."""
    teller: Teller
    show: Track
    """The caller's progress."""
    track: Track
    """The same, with each phase in the run's status too."""
    say: Say
    hear: Hear


@dataclass(frozen=True)
class _Training:
    """The trainer and what watches over it."""

    trainer: SFTTrainer
    balance: HBOCallback
    takeover: Takeover
    stop: StopOnSignal


def train(
    config: RunConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
    say: Say = print,
    hear: Hear = unheard,
) -> Path:
    """The run's folder, after training, evaluation and report.

    Args:
        config: What to run; `output` must be set.
        resume: Go on from the folder's last whole checkpoint.
        overwrite: Replace the run that the folder holds.
        track: Hears of every phase.
        say: Hears one line per result.
        hear: Hears of the loss and the shares whenever the trainer logs.

    Raises:
        HBOError: Whatever the user can mend; nothing written so far is lost.
    """
    run = replace(_checked(config, resume=resume, overwrite=overwrite, track=track, say=say), hear=hear)
    with run.teller.told():
        if resume:
            _check_resumed(run)
        each = f", in {run.args.world_size} processes" if run.args.world_size > 1 else ""
        run.say(f"running on {device_told(run.args.device)}{each}")
        if hides_token_losses(run.args):
            run.say(
                f"the log has no loss/<dataset>, because TRL {version('trl')} shows no token's loss with "
                f"train.loss_type={run.args.loss_type}; with nll it has, for more memory"
            )
        found = find_model(run.config, run.track)
        check_model(found.spec, run.args, run.lora)
        data, prints = _read(run, found)
        model = load_weights(found.spec, run.args)
        examples, scores = _group(run, data, model, found.tokenizer)
        rows = as_drawn(examples, run.args, run.track)
        held_out = HeldOut(data, found.tokenizer, run.args, run.config.mixture.eval_accuracy, run.track)
        to_device(model, run.args.device)
        before = held_out.before(model)
        training = _trainer(run, model, found.tokenizer, data, rows, prints)
        _train(run, training, lambda: _take_folder(run, training, data, examples, scores))
        _finish(run, training, held_out, before)
    return run.folder


def _checked(config: RunConfig, *, resume: bool, overwrite: bool, track: Track, say: Say) -> _Run:
    """The run, as far as it can be known to be possible before anything is read."""
    if config.output is None:
        raise ConfigError("no output folder; set output: in the configuration, or give --output")
    quiet_libraries()
    folder = Path(config.output)
    config, args, lora = checked_settings(config)
    if args.process_index == 0 and recover(folder):
        say(
            f"{folder}: the earlier run was put back, because the run that should replace it was killed before its "
            "first step"
        )
    all_processes().from_first(None)  # none looks at the folder before
    checkpoint = run_folder.check_folder(folder, resume=resume, overwrite=overwrite)
    check_hub(args)
    teller = Teller(folder, speaks=args.process_index == 0, ends_with_training=False)
    return _Run(config, args, lora, folder, checkpoint, teller, track, teller.heard(track), say, unheard)


def _check_resumed(run: _Run) -> None:
    check_config(load(run.folder / run_folder.CONFIG), run.config)
    anew = f"{run.folder} holds no whole checkpoint; beginning anew"
    run.say(f"going on from {run.checkpoint}" if run.checkpoint else anew)


def _read(run: _Run, found: FoundModel) -> tuple[Data, dict[str, str]]:
    """The rows, and what stands for the content of each dataset: that of the checkpoint, if there is one."""
    data = read_data(run.config, found, run.args, run.track)
    check_metric(run.args, evaluated(data.held_out))
    for note in data.notes:
        if note.is_warning:
            warnings.warn(note.text, UserWarning, stacklevel=1)
    prints = fingerprints(data.train, data.held_out)
    if run.checkpoint:
        check_data(run_folder.snapshot(run.checkpoint)["data"], prints, paths_of(run.config, data.sizes))
    return data, prints


def _group(
    run: _Run, data: Data, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> tuple[Dataset, Scores | None]:
    """The training rows with their groups, and their scores if groups need any."""
    scores = None
    if needs_scores(run.config):
        scores = scored(run.config, data.train, model, tokenizer, run.args, run.track)
        rows = len(data.train)
        run.say("difficulty scores read from the cache" if scores.cached else f"difficulty scored on {rows} rows")
    if run.config.difficulty.drop_easiest:  # training is as long as with the rows that are dropped
        run.args.max_steps = steps_of(run.args, len(data.train))
    return grouped(run.config, data.train, scores, run.args)


def _trainer(
    run: _Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Data,
    rows: Dataset,
    prints: dict[str, str],
) -> _Training:
    """The trainer, which writes nothing yet."""
    config, args = run.config, run.args
    eval_sets = {
        name: data.held_out.filter(lambda row, n=name: row["hbo_dataset"] == n) for name in evaluated(data.held_out)
    }
    trainer = SFTTrainer(
        model,
        args=for_trainer(args),
        train_dataset=rows,
        eval_dataset=eval_sets if args.eval_strategy != "no" else None,
        processing_class=tokenizer,
        peft_config=run.lora,
    )
    for printer in (ProgressCallback, PrinterCallback):
        if args.disable_tqdm:
            trainer.remove_callback(printer)
    balance = HBOCallback(
        trainer,
        config.balance,
        weights=weights_of(config, list(data.sizes)),
        max_passes=config.mixture.max_passes,
        seed=draw_seed(config, args),
        fingerprints=prints,
    )
    balance.live.teller, balance.say = run.teller, run.say
    # The first of all: it tries what training needs, and nobody shall have written or reported anything before.
    trainer.callback_handler.callbacks.insert(0, balance)
    takeover = Takeover(run.folder, run.teller, run.say, is_first=trainer.is_world_process_zero())
    stop = StopOnSignal(trainer, run.folder / run_folder.STOP)
    for callback in (takeover, _Progress(run, balance), WithoutCards(), stop):
        trainer.add_callback(callback)
    return _Training(trainer, balance, takeover, stop)


def _train(run: _Run, training: _Training, take_folder: Callable[[], None]) -> None:
    """Trains to the end, or to the step at which a signal stops it."""
    trainer = training.trainer
    # Another run is moved aside at the last moment; where there is none, this one can be resumed from now on.
    if all_processes().from_first(run.checkpoint is None and bool(run_folder.files_of(run.folder))):
        training.balance.ready = take_folder
    else:
        take_folder()
    compact = targets_only(run.args.device, enabled=not run.args.torch_compile)
    with training.takeover.kept(), saving_to(run.folder), compact:
        trainer.train(resume_from_checkpoint=str(run.checkpoint) if run.checkpoint else None)
    if (received := training.stop.received) is not None:
        trainer.accelerator.wait_for_everyone()  # a launcher kills all processes when the first has ended
        step = trainer.state.global_step
        saved = run.folder / f"checkpoint-{step}"
        raise Interrupted(
            f"stopped by {received.name} after step {step}; {saved} is saved, go on with --resume", 128 + received
        )


def _take_folder(run: _Run, training: _Training, data: Data, examples: Dataset, scores: Scores | None) -> None:
    """Makes the folder this run's: sets another aside, and writes what a run can be resumed and shown from."""
    trainer = training.trainer
    trainer.accelerator.wait_for_everyone()  # every process has come so far before the first changes the folder
    if trainer.is_world_process_zero():
        if run.checkpoint is None:
            training.takeover.begin()
        write_file(run.folder / run_folder.CONFIG, dump(without_tokens(run.config)))
        mixture_of(run.config, examples, data.held_out, scores, data.left_out).write(run.folder / run_folder.MIXTURE)
    trainer.accelerator.wait_for_everyone()


def _finish(run: _Run, training: _Training, held_out: HeldOut, before: tuple[ByDataset, ByDataset]) -> None:
    """Saves the model, measures it, and writes and pushes the results."""
    trainer, balance, tokenizer = training.trainer, training.balance, held_out.tokenizer
    with saving_to(run.folder):
        template = plain_template_of(held_out.data, tokenizer)
        save_model(trainer, run.folder / run_folder.MODEL_FOLDER, template)
        (run.folder / run_folder.EVALUATION).unlink(missing_ok=True)  # it was of the model that stood here before
        after = held_out.after(trainer.model)
        trainer.log({f"eval_{name}_loss": score["nll"] for name, score in after[0].items()})
        # Written by a checkpoint otherwise, of which there may be none.
        trainer.state.stateful_callbacks["HBOState"] = balance.state.state()
        trainer.save_state()
        metrics = metrics_of(run.config, trainer, balance, before, after)
        if trainer.is_world_process_zero():
            prompt = None if template is None else example_prompt(tokenizer)
            write_results(run.folder, metrics, is_adapter=run.lora is not None, prompt=prompt)
    if pushed := push(trainer, run.folder / run_folder.MODEL_FOLDER):
        run.say(f"pushed to {pushed}")
    trainer.accelerator.wait_for_everyone()


class _Progress(TrainerCallback):
    def __init__(self, run: _Run, balance: HBOCallback) -> None:
        self.run, self.balance = run, balance
        self.stack = ExitStack()

    def on_train_begin(self, args: SFTConfig, state: Any, control: Any, **kwargs: Any) -> None:
        self.stack.close()
        self.advance = self.stack.enter_context(self.run.show("training", state.max_steps))
        self.advance(state.global_step)
        if state.is_world_process_zero:
            self.run.say(f"training; from another terminal: hbo watch {shlex.quote(str(self.run.folder))}")

    def on_step_end(self, args: SFTConfig, state: Any, control: Any, **kwargs: Any) -> None:
        self.advance(1)

    def on_log(self, args: SFTConfig, state: Any, control: Any, **kwargs: Any) -> None:
        if "loss" in (logs := kwargs.get("logs") or {}):
            balancing, left = self.balance.balancing, self.run.teller.now.seconds_left
            shares = dict(zip(balancing.groups.datasets, balancing.balancer.p_K.tolist(), strict=True))
            self.run.hear(Lap(state.global_step, state.max_steps, float(logs["loss"]), shares, left))

    def on_train_end(self, args: SFTConfig, state: Any, control: Any, **kwargs: Any) -> None:
        self.stack.close()
