"""`train.push_to_hub`: the finished model goes to the Hub as it lies in `model/`, with hbo's model card.

Pushes during training (`hub_strategy`) are the trainer's own, out of the run's folder, so that must hold no secret.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from transformers import Trainer, TrainingArguments

from hbo.config import RunConfig
from hbo.errors import ConfigError, DataError, first_line
from hbo.folder.run import SECRETS


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
            "or HF_TOKEN), mend train.hub_model_id, or leave push_to_hub out"
        ) from None


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


def without_tokens(config: RunConfig) -> RunConfig:
    """The configuration as it may lie in a folder that is pushed.

    Raises:
        Nothing.
    """
    kept = {key: value for key, value in config.train.items() if key not in SECRETS}
    return config.model_copy(update={"train": kept})
