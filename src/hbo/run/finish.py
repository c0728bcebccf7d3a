"""The end of a run: `metrics.json`, the report and the model card are written, and the model goes to the Hub if asked.

Pushes during training (`hub_strategy`) are the trainer's own, out of the run's folder, so that must hold no secret.
"""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers import Trainer, TrainingArguments

from hbo import __version__
from hbo.atomic import write_file
from hbo.config import RunConfig
from hbo.errors import ConfigError, DataError
from hbo.folder import paths as run_folder
from hbo.folder.metrics import Metrics
from hbo.folder.run import SECRETS, read_run
from hbo.report.model_card import model_card
from hbo.report.page import write_report
from hbo.run.held_out_scores import ByDataset, averages
from hbo.scoring.devices import device_told
from hbo.text import first_line
from hbo.training.callback import HBOCallback


def check_hub(args: TrainingArguments) -> None:
    """Makes the repository that the model is to be pushed to, unless it exists or nothing is to be pushed.

    The trainer would do so as well, but only when hours may have been spent on scoring.

    Raises:
        ConfigError: The Hub can't be reached, or doesn't let this user make or write to the repository.
    """
    if not args.push_to_hub or args.process_index:
        return
    name = args.hub_model_id or Path(args.output_dir).absolute().name
    try:
        HfApi().create_repo(name, token=args.hub_token, private=args.hub_private_repo, exist_ok=True)
    except Exception as error:  # of the network, of the token, of the name: each has its own
        raise ConfigError(
            f"train.push_to_hub: '{name}' can't be used on the Hub ({first_line(error)[:200]}); log in (hf auth login, "
            "or HF_TOKEN), correct train.hub_model_id, or leave push_to_hub out"
        ) from None


def without_tokens(config: RunConfig) -> RunConfig:
    """The configuration as it may lie in a folder that is pushed."""
    kept = {key: value for key, value in config.train.items() if key not in SECRETS}
    return config.model_copy(update={"train": kept})


def metrics_of(
    config: RunConfig,
    trainer: Trainer,
    balance: HBOCallback,
    before: tuple[ByDataset, ByDataset],
    after: tuple[ByDataset, ByDataset],
) -> dict[str, Any]:
    """What `metrics.json` holds; `before` and `after` are (losses, accuracies) of the model on the held-out rows."""
    steps, balancing = trainer.state.global_step, balance.balancing
    datasets = balancing.groups.datasets
    plain = max(balancing.train_seconds - balancing.balance_seconds, 1e-9)
    return {
        "method": config.balance.method,
        "seed": config.seed,
        "steps": steps,
        "tokens": balancing.tokens,
        "train_seconds": round(balancing.train_seconds, 3),
        "balance_seconds": round(balancing.balance_seconds, 3),
        "balance_overhead": round(balancing.balance_seconds / plain, 6),
        "eval": after[0],
        "eval_before": before[0],
        **averages(after[0], before[0]),
        "sizes": dict(zip(datasets, balancing.groups.sizes_KL.tolist(), strict=True)),
        "drawn": dict(zip(datasets, balance.drawn_so_far(steps).tolist(), strict=True)),
        "environment": {
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {device_told(trainer.args.device)}",
            "date": time.strftime("%Y-%m-%d"),
            "hbo": __version__,  # a checkout need not be installed
            **{name: version(name) for name in ("torch", "transformers", "trl", "peft", "accelerate")},
        },
        "accuracy": after[1],
        "accuracy_before": before[1],
    }


def write_results(folder: Path, metrics: dict[str, Any], *, is_adapter: bool, prompt: str | None) -> None:
    """Writes `metrics.json`, the report and the card of the model that lies in the folder.

    `prompt` is an example of one, for a model whose tokenizer has no chat template of its own.

    Raises:
        DataError: The disk is full or broken.
    """
    Metrics.checked(metrics, "metrics").write(folder / run_folder.METRICS_FILE)
    write_report(folder)
    card = model_card(read_run(folder), is_adapter=is_adapter, prompt=prompt)
    write_file(folder / run_folder.MODEL_FOLDER / run_folder.MODEL_CARD, card)


def push(trainer: Trainer, model: Path) -> str | None:
    """The repository that the folder `model` was pushed to, or None when that wasn't asked for.

    Raises:
        DataError: It couldn't be pushed; the command that does so later is told.
    """
    args = trainer.args
    if not args.push_to_hub or not trainer.is_world_process_zero():
        return None
    repository = str(trainer.hub_model_id)
    try:
        HfApi().upload_folder(
            repo_id=repository,
            folder_path=model,
            commit_message="End of training",
            token=args.hub_token,
            revision=args.hub_revision,
            ignore_patterns=["training_args.bin"],  # it would hold the token
        )
    except Exception as error:
        raise DataError(
            f"{model}: can't be pushed to {repository} ({first_line(error)[:200]}); the run is complete, so push it "
            f"later with: hf upload {repository} {model}"
        ) from None
    return repository
