"""A whole run: configuration in, run folder out. The only place that knows TRL."""

from __future__ import annotations

import json
import platform
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import SFTConfig, SFTTrainer

from hbo import __version__
from hbo.config import RunConfig
from hbo.config import file as config_file
from hbo.data.cache import atomic_path
from hbo.data.chat import example_prompt
from hbo.errors import ConfigError, Interrupted
from hbo.folder import paths as run_folder
from hbo.folder.run import read_run
from hbo.progress import Track, silent
from hbo.report.model_card import model_card
from hbo.report.page import write_report
from hbo.run import prepare
from hbo.run.accuracy import VERSION, accuracy
from hbo.run.arguments import adapter, draw_seed, for_trainer, keep_steps, training_arguments, typed
from hbo.run.compact_head import targets_only
from hbo.run.evaluate import Scores, autocast, averages, cached, held_out
from hbo.run.hub import check_hub, push, without_tokens
from hbo.run.mixture_file import write_mixture
from hbo.run.packages import check_packages, check_stored
from hbo.run.rehearsal import check_parts, rehearse
from hbo.run.resume import check_config
from hbo.run.saving import save_model, saving_to
from hbo.run.signals import StopOnSignal
from hbo.run.takeover import Takeover, recover
from hbo.scoring.devices import to_device
from hbo.scoring.fingerprint import content_fingerprint, model_fingerprint
from hbo.scoring.models import model_config
from hbo.scoring.processes import all_processes
from hbo.training.best import check_metric, evaluated
from hbo.training.callback import HBOCallback
from hbo.training.live_log import Teller
from hbo.training.packing import as_drawn
from hbo.training.state import check_data, fingerprints

Say = Callable[[str], None]


def train(
    config: RunConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
    say: Say = print,
) -> Path:
    """The run's folder, after training, evaluation and report.

    Args:
        config: What to run; `output` must be set.
        resume: Go on from the folder's last whole checkpoint.
        overwrite: Replace the run that the folder holds.
        track: Hears of every phase.
        say: Hears one line per result.

    Raises:
        HBOError: Whatever the user can mend; nothing written so far is lost.
    """
    if config.output is None:
        raise ConfigError("there is no output folder; set output: in the configuration or give --output")
    prepare.quiet_libraries()
    folder = Path(config.output)
    config = typed(config)
    check_packages(config.train)
    args = training_arguments(config)
    rehearse(args)
    peft_config = adapter(config)
    if args.process_index == 0 and recover(folder):
        say(f"{folder}: the run that was being replaced is there again; the one in its place died before a step")
    all_processes().from_first(None)  # none looks at the folder before
    checkpoint = run_folder.check(folder, resume=resume, overwrite=overwrite)
    check_hub(args)
    teller = Teller(folder, speaks=args.process_index == 0, ends_with_training=False)
    with teller.told():
        if resume:
            check_config(config_file.load(folder / run_folder.CONFIG), config)
            say(f"going on from {checkpoint}" if checkpoint else f"{folder} holds no whole checkpoint; beginning anew")
        _run(config, args, _Start(folder, checkpoint, peft_config), teller, track, say)
    return folder


@dataclass(frozen=True)
class _Start:
    folder: Path
    checkpoint: Path | None
    peft_config: LoraConfig | None


def _run(config: RunConfig, args: SFTConfig, start: _Start, teller: Teller, show: Track, say: Say) -> None:
    folder, checkpoint, track = start.folder, start.checkpoint, teller.heard(show)
    spec, tokenizer = prepare.load(config, track)
    stated = model_config(spec, trust_remote_code=bool(args.trust_remote_code))
    check_stored(spec, stated)
    check_parts(spec, stated, args, start.peft_config)
    data = prepare.read_data(config, tokenizer, args, track)
    check_metric(args, evaluated(data.held_out))
    for note in data.notes:
        if note.is_warning:
            warnings.warn(note.text, UserWarning, stacklevel=1)
    model = prepare.load_weights(spec, args)
    prints = fingerprints(data.train, data.held_out)
    if checkpoint:
        check_data(run_folder.snapshot(checkpoint)["data"], prints, _paths(config, list(data.sizes)))
    scores = None
    if prepare.needs_scores(config):
        scores = prepare.scored(config, data.train, model, tokenizer, args, track)
        say(
            "difficulty scores read from the cache" if scores.cached else f"difficulty scored on {len(data.train)} rows"
        )
    examples = prepare.grouped(config, data.train, scores, args)
    rows = as_drawn(examples, args, track)
    if config.difficulty.drop_easiest:
        keep_steps(args, len(data.train))

    names = list(data.sizes)
    pad = int(tokenizer.pad_token_id)  # type: ignore[arg-type]

    def evaluate(phase: str) -> Scores:
        with autocast(args.device, bool(args.bf16)):
            return held_out(model, data.held_out, names, pad_token_id=pad, phase=phase, track=track)

    def answer(phase: str) -> Scores:
        with autocast(args.device, bool(args.bf16)):
            return accuracy(
                model, data.held_out, names, tokenizer, max_length=data.max_length, phase=phase, track=track
            )

    to_device(model, args.device)
    key = _key(model, data.held_out, args)
    before = cached(key, lambda: evaluate("held-out loss before"))
    asked = config.mixture.eval_accuracy
    right_before = (
        cached(f"{key}-accuracy{VERSION}-{data.max_length}", lambda: answer("held-out answers before")) if asked else {}
    )
    eval_sets = {
        name: data.held_out.filter(lambda row, n=name: row["hbo_dataset"] == n) for name in evaluated(data.held_out)
    }
    trainer = SFTTrainer(
        model,
        args=for_trainer(args),
        train_dataset=rows,
        eval_dataset=eval_sets if args.eval_strategy != "no" else None,
        processing_class=tokenizer,
        peft_config=start.peft_config,
    )
    for printer in (ProgressCallback, PrinterCallback):
        if args.disable_tqdm:
            trainer.remove_callback(printer)
    shares = prepare.weights(config, names)
    cap = config.mixture.max_passes
    balance = HBOCallback(
        trainer, config.balance, weights=shares, max_passes=cap, seed=draw_seed(config, args), fingerprints=prints
    )
    balance.live.teller, balance.say = teller, say
    # The first of all: it tries what training needs, and nobody shall have written or reported anything before.
    trainer.callback_handler.callbacks.insert(0, balance)
    takeover = Takeover(folder, teller, say, is_first=trainer.is_world_process_zero())
    stop = StopOnSignal(trainer)
    for callback in (takeover, _Progress(show), stop):
        trainer.add_callback(callback)

    def begin() -> None:
        trainer.accelerator.wait_for_everyone()  # every process has come so far before the first changes the folder
        if trainer.is_world_process_zero():
            if checkpoint is None:
                takeover.begin()
            with atomic_path(folder / run_folder.CONFIG) as temporary:
                temporary.write_text(config_file.dump(without_tokens(config)), encoding="utf-8")
            left = None if scores is None else prepare.left_over(config, data.train, scores)
            kept = scores.of(left) if scores and left is not None else scores
            write_mixture(folder, config, examples, data.held_out, kept, data.left_out)
        trainer.accelerator.wait_for_everyone()

    # Another run is moved aside at the last moment; where there is none, this one can be resumed from now on.
    if all_processes().from_first(checkpoint is None and bool(run_folder.files_of(folder))):
        balance.ready = begin
    else:
        begin()
    with takeover.kept(), saving_to(folder), targets_only(args.device, enabled=not args.torch_compile):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop.received is not None:
        saved = folder / f"checkpoint-{trainer.state.global_step}"
        raise Interrupted(
            f"stopped by {stop.received.name} after step {trainer.state.global_step}; {saved} is saved, go on with "
            "--resume",
            128 + stop.received,
        )
    with saving_to(folder):
        template = prepare.plain_template_of(data, tokenizer)
        save_model(trainer, folder / run_folder.MODEL, template)
        (folder / run_folder.EVALUATION).unlink(missing_ok=True)  # it was of the model that stood here before
        model = trainer.model
        after = evaluate("held-out loss after")
        right = answer("held-out answers after") if asked else {}
        trainer.log({f"eval_{name}_loss": score["nll"] for name, score in after.items()})
        # Written by a checkpoint otherwise, of which there may be none.
        trainer.state.stateful_callbacks["HBOState"] = balance.state.state()
        trainer.save_state()
        metrics = _metrics(config, trainer, balance, before, after)
        metrics |= {"accuracy": right, "accuracy_before": right_before}
        if trainer.is_world_process_zero():
            with atomic_path(folder / run_folder.METRICS) as temporary:
                temporary.write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            write_report(folder)
            prompt = None if template is None else example_prompt(tokenizer)
            card = model_card(read_run(folder), is_adapter=start.peft_config is not None, prompt=prompt)
            (folder / run_folder.MODEL / "README.md").write_text(card, encoding="utf-8")
    if pushed := push(trainer, folder / run_folder.MODEL):
        say(f"pushed to {pushed}")
    trainer.accelerator.wait_for_everyone()


class _Progress(TrainerCallback):
    def __init__(self, track: Track) -> None:
        self.track = track
        self.stack = ExitStack()

    def on_train_begin(self, args: SFTConfig, state: Any, control: Any, **kwargs: Any) -> None:
        self.stack.close()
        self.advance = self.stack.enter_context(self.track("training", state.max_steps))
        self.advance(state.global_step)

    def on_step_end(self, args: SFTConfig, state: Any, control: Any, **kwargs: Any) -> None:
        self.advance(1)

    def on_train_end(self, args: SFTConfig, state: Any, control: Any, **kwargs: Any) -> None:
        self.stack.close()


def _paths(config: RunConfig, names: list[str]) -> dict[str, str]:
    # A part of a `group_by` source is named source/value.
    sources = {name: name if name in config.mixture.datasets else name.partition("/")[0] for name in names}
    return {name: config.mixture.datasets[source].path for name, source in sources.items()}


def _key(model: Any, rows: Dataset, args: SFTConfig) -> str:
    content = content_fingerprint(rows, ["input_ids", "labels", "hbo_dataset"]) if len(rows) else "none"
    return f"{model_fingerprint(model)}-{content}-{'bf16' if args.bf16 else 'fp32'}-{args.device.type}"


def _metrics(
    config: RunConfig, trainer: SFTTrainer, balance: HBOCallback, before: Scores, after: Scores
) -> dict[str, Any]:
    steps, datasets = trainer.state.global_step, balance.balancing.groups.datasets
    balancing = balance.balancing
    plain = max(balancing.train_seconds - balancing.balance_seconds, 1e-9)
    return {
        "method": config.balance.method,
        "seed": config.seed,
        "steps": steps,
        "tokens": balancing.tokens,
        "train_seconds": round(balancing.train_seconds, 3),
        "balance_seconds": round(balancing.balance_seconds, 3),
        "balance_overhead": round(balancing.balance_seconds / plain, 6),
        "eval": after,
        "eval_before": before,
        **averages(after, before),
        "sizes": dict(zip(datasets, balance.balancing.groups.sizes_KL.tolist(), strict=True)),
        "drawn": dict(zip(datasets, balance.drawn_so_far(steps).tolist(), strict=True)),
        "environment": {
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {trainer.args.device}",
            "date": time.strftime("%Y-%m-%d"),
            "hbo": __version__,  # a checkout need not be installed
            **{name: version(name) for name in ("torch", "transformers", "trl", "peft", "accelerate")},
        },
    }
