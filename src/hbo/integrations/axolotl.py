"""HBO in axolotl: a plugin, and a section of the user's YAML.

    plugins: [hbo.integrations.axolotl.HBOPlugin]
    hbo: {update_every: 200}

axolotl forgets which entry of `datasets:` a row came from when it merges them. So the plugin prepares them one by one,
through axolotl's own functions, names their rows, and merges them as axolotl would have.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

from datasets import Dataset
from pydantic import BaseModel, field_validator, model_validator
from transformers import Trainer

from hbo.errors import ConfigError, HBOError
from hbo.integrations.entry_names import entry_names

try:
    from axolotl.common.const import DEFAULT_DATASET_PREPARED_PATH
    from axolotl.common.datasets import TrainDatasetMeta
    from axolotl.integrations.base import BasePlugin
    from axolotl.loaders import load_processor, load_tokenizer
    from axolotl.utils.data import prepare_datasets, prepare_preference_datasets
    from axolotl.utils.data.shared import create_train_validation_split, merge_datasets
    from axolotl.utils.data.utils import deduplicate_and_log_datasets
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.logging import get_logger
    from axolotl.utils.trainer import calculate_total_num_steps

    from hbo.integrations.attach import attach
    from hbo.integrations.section import section_of
except ImportError as error:
    if error.name == "axolotl":
        raise
    # axolotl only logs that a plugin can't be imported, and would train on without balancing.
    raise HBOError(f"HBO can't be put into this axolotl ({error}); it is made for axolotl 0.19") from error

_ORDER = "asks for an order of its own, but HBO draws the rows; leave it out"
_STREAM = "leaves HBO no rows to choose from; name all data under datasets, without streaming"
_REWARDS = "trains on a loss of its own; HBO balances supervised fine-tuning and DPO"
_REFUSED = {
    "sample_packing": "puts rows of different groups into one, so that none is drawn or measured by itself; set it to "
    "false",
    "batch_flattening": "makes one row of a batch, so that none is measured by itself; set it to false",
    "curriculum_sampling": _ORDER,
    "group_by_length": f"{_ORDER} (the rows of a step are sorted by length anyway)",
    **dict.fromkeys(("streaming", "pretraining_dataset"), _STREAM),
    **dict.fromkeys(("reward_model", "process_reward_model"), _REWARDS),
}
_RL = ("dpo", "ipo")


class HBOArgs(BaseModel):
    """What the plugin adds to axolotl's own schema."""

    hbo: dict[str, Any] | None = None
    """The keys of `TrainerSection`."""

    @field_validator("hbo", mode="before")
    @classmethod
    def _is_known(cls, value: Any) -> Any:
        section_of(value)  # its ConfigError is none of pydantic's, so it reaches the user as it is, one sentence
        return value

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        asked = DictDefault(dict(self))
        if refused := [f"{option} {why}" for option, why in _REFUSED.items() if asked[option]]:
            raise ConfigError(refused[0])
        if asked.rl and asked.rl not in _RL:
            raise ConfigError(f"rl: {asked.rl.value} isn't one that HBO balances ({', '.join(_RL)})")
        if (asked.accelerator_config or {}).get("dispatch_batches"):
            raise ConfigError("accelerator_config.dispatch_batches lets one process draw the rows of all; leave it out")
        return self


class HBOPlugin(BasePlugin):  # type: ignore[misc]
    """Names each row's dataset, and puts HBO into the trainer."""

    def get_input_args(self) -> str:
        """Where axolotl finds what this plugin adds to its schema."""
        return f"{HBOArgs.__module__}.{HBOArgs.__qualname__}"

    def register(self, cfg: DictDefault) -> None:
        """Other defaults where axolotl's own don't suit balancing, and nothing is said of them."""
        kernels = [f"lora_{part}_kernel" for part in ("mlp", "qkv", "o", "embedding")]
        # axolotl looks 256 batches ahead, and an update can't change what has been drawn already. And it passes LoRA's
        # layers by, which gradient norms are read off.
        ahead = {"dataloader_num_workers": 1, "dataloader_pin_memory": True, "dataloader_prefetch_factor": 2}
        for wanted in (ahead, dict.fromkeys(kernels, False) if cfg.get("adapter") else {}):
            if all(cfg.get(option) is None for option in wanted):
                cfg.update(wanted)

    def load_datasets(self, cfg: DictDefault, preprocess: bool = False) -> TrainDatasetMeta:
        """The rows to train on, with the name of their dataset, and those to evaluate on."""
        tokenizer = load_tokenizer(cfg)
        processor = load_processor(cfg, tokenizer=tokenizer) if cfg.processor_type else None
        named: list[Dataset] = []
        held_out = None
        for place, name in enumerate(entry_names(cfg.datasets)):
            alone = _alone(cfg, place)
            rows, test, *_ = (
                prepare_preference_datasets(alone, tokenizer)
                if cfg.rl
                else prepare_datasets(alone, tokenizer, processor)
            )
            held_out = held_out or test
            named.append(rows.add_column("hbo_dataset", [name] * len(rows)))
        train = merge_datasets(named, cfg)
        if cfg.dataset_exact_deduplication:
            shown = train.with_format(None, columns=[each for each in train.column_names if each != "hbo_dataset"])
            train = deduplicate_and_log_datasets(dataset=shown)[0].with_format(None)
        if cfg.val_set_size and held_out is None:
            share = int(cfg.val_set_size) if cfg.val_set_size > 1 else cfg.val_set_size
            train, held_out = create_train_validation_split(train, cfg, share)
            held_out = held_out.remove_columns("hbo_dataset")
        return TrainDatasetMeta(train, held_out, -1 if preprocess else _steps(cfg, train))

    def post_trainer_create(self, cfg: DictDefault, trainer: Trainer) -> None:
        """Gives the rows their difficulty, under the model as it now is, and the trainer its callback."""
        section = section_of(cfg.hbo and cfg.hbo.to_dict())
        if not trainer.args.bf16 and section.difficulty.precision == "auto":
            # axolotl's own LoRA kernels take no other precision than that of training.
            as_trained = section.difficulty.model_copy(update={"precision": "fp32"})
            section = section.model_copy(update={"difficulty": as_trained})
        attach(trainer, section).say = get_logger(__name__).info


def _alone(cfg: DictDefault, place: int) -> DictDefault:
    """The configuration as if this entry of `datasets:` were the only one; what follows merging is left to be done."""
    # In a folder of its own, since this isn't what axolotl by itself would keep for such a configuration.
    folder = Path(cfg.dataset_prepared_path or DEFAULT_DATASET_PREPARED_PATH) / "hbo" / str(place)
    later = {"val_set_size": 0, "dataset_exact_deduplication": False, "shuffle_merged_datasets": False}
    own = {"datasets": [cfg.datasets[place]], "test_datasets": None if place else cfg.test_datasets}
    return DictDefault({**cfg, **later, **own, "dataset_prepared_path": str(folder)})


def _steps(cfg: DictDefault, train: Dataset) -> int:
    """The optimizer steps that axolotl would count."""
    by_rows = math.ceil(len(train) * cfg.num_epochs / cfg.batch_size)
    steps: int = by_rows if cfg.rl else calculate_total_num_steps(cfg, train)
    return min(steps, cfg.max_steps) if cfg.max_steps else steps
