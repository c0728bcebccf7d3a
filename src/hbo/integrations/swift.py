"""HBO in ms-swift: a callback of its registry. A file of one line brings it in, `import hbo.integrations.swift`:

    swift sft … --external_plugins hbo_plugin.py --callbacks hbo

The settings are YAML or JSON in the environment variable HBO, or in a file that it names. A row's dataset is its
`channel`; where there is none, the dataset that the row was loaded from, as ms-swift notes it.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import MethodType
from typing import Any

from swift.callbacks import TrainerCallback, callbacks_map
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from hbo.config.file import read_text
from hbo.config.yaml_text import read_yaml
from hbo.errors import ConfigError
from hbo.integrations.attach import attach
from hbo.integrations.section import TrainerSection, section_of
from hbo.integrations.swift_rows import named_rows, save_levels, saved_levels

VARIABLE = "HBO"
"""The environment variable with the settings, or with the path of their file."""

SWIFT_TRAINERS = ("Seq2SeqTrainer", "DPOTrainer", "ORPOTrainer", "CPOTrainer", "KTOTrainer", "RewardTrainer")
"""Trainers of ms-swift's whose rows have a loss by themselves."""


def swift_settings() -> TrainerSection:
    """What the user has set; nothing at all is a section of defaults.

    Raises:
        ConfigError: There is no such file, or a key or value can't be used.
    """
    text, source = os.environ.get(VARIABLE, ""), f"the environment variable {VARIABLE}"
    if text.endswith((".yaml", ".yml", ".json")):
        text, source = read_text(Path(text)), text
    return section_of(read_yaml(text, source)[0], source)


class HBOForSwift(TrainerCallback):  # type: ignore[misc]
    """Puts HBO into the trainer as soon as that is whole; what balances is the HBOCallback that it then gets."""

    def __init__(self, args: TrainingArguments, trainer: Trainer) -> None:
        super().__init__(args, trainer)
        self.section = swift_settings()
        check_swift(args, trainer, self.section)
        self._is_in = False

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Gives the trainer named rows, transformers' own loader, and the callback."""
        if self._is_in:  # the event goes through a list into which HBO's callbacks are put meanwhile
            return
        self._is_in = True
        self.trainer.train_dataset = rows = named_rows(self.trainer)
        has_levels = self.section.difficulty.groups > 1
        if has_levels and args.resume_from_checkpoint and not args.resume_only_model:
            level_N = saved_levels(Path(args.resume_from_checkpoint), len(rows))
            self.trainer.train_dataset = rows.add_column("hbo_level", level_N)
        # ms-swift's own loader has a batch sampler that no sampler can be put into.
        self.trainer.get_train_dataloader = MethodType(Trainer.get_train_dataloader, self.trainer)
        attach(self.trainer, self.section)
        if has_levels and args.should_save:
            save_levels(Path(args.output_dir), self.trainer.train_dataset)
        self.trainer.add_callback(ForgottenMeasurements(args, self.trainer))


class ForgottenMeasurements(TrainerCallback):  # type: ignore[misc]
    """Keeps what is measured for HBO out of ms-swift's metrics of the next evaluation; its place is behind HBO's."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forgets the measurements that training begins with."""
        for metric in self.trainer.custom_metrics["eval"].values():
            metric.reset()

    on_step_end = on_train_begin


def check_swift(args: TrainingArguments, trainer: Trainer, section: TrainerSection) -> None:
    """Refuses, by their names, options of ms-swift's that can't go with balancing.

    Raises:
        ConfigError: One is set.
    """
    kind, template = type(trainer).__name__, trainer.template
    refused = {
        f"{kind} isn't one that HBO balances ({', '.join(SWIFT_TRAINERS)})": kind not in SWIFT_TRAINERS,
        "packing puts rows of different groups into one; set --packing false": template.packing,
        "rewards stream can't be read off the one long row of padding_free; set rewards: probe": (
            template.padding_free and section.rewards == "stream"
        ),
        "sequence_parallel_size lets processes share their rows, while HBO takes each to see rows of its own; set it "
        "to 1": template.sequence_parallel_size > 1,
        "group_by_length asks for an order of its own; leave it out (HBO sorts the rows of a step by length)": (
            args.group_by_length
        ),
        "train_dataloader_shuffle false asks for the rows in order, but HBO draws them; leave it out": (
            not args.train_dataloader_shuffle
        ),
        "resume_only_model leaves HBO without the model that the rows were scored by; leave it out": (
            args.resume_only_model and not args.ignore_data_skip
        ),
    }
    if said := [sentence for sentence, is_so in refused.items() if is_so]:
        raise ConfigError(said[0])


swift_settings()  # a setting that can't work is refused now, before a model is loaded
callbacks_map["hbo"] = HBOForSwift
