"""HBO in LLaMA-Factory: its own `run_exp`, with an `hbo:` section in its YAML.

    python -m hbo.integrations.llama_factory config.yaml [key=value …]

LLaMA-Factory has no plugins, hands its callbacks no trainer, and forgets which dataset a row is of. So while its
`run_exp` runs, functions that it looks up are wrapped: each does what it did, and what HBO needs besides.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from llamafactory.data import loader
from llamafactory.extras.misc import get_device_count
from llamafactory.train import tuner
from transformers import Trainer, TrainerCallback

from hbo.errors import ConfigError, DataError, HBOError
from hbo.integrations.attach import attach
from hbo.integrations.llama_factory_rows import GroupByGroup, packed
from hbo.integrations.section import TrainerSection, section_of
from hbo.rewards.examples import PACKED
from hbo.text import one_line

TRAINERS = {
    "sft": ("llamafactory.train.sft.workflow", "CustomSeq2SeqTrainer"),
    "pt": ("llamafactory.train.pt.workflow", "CustomTrainer"),
    "rm": ("llamafactory.train.rm.workflow", "PairwiseTrainer"),
    "dpo": ("llamafactory.train.dpo.trainer", "CustomDPOTrainer"),  # imported anew by each run
    "kto": ("llamafactory.train.kto.workflow", "CustomKTOTrainer"),
}
"""Stage → where LLaMA-Factory looks up the trainer that it makes."""


def run_exp(args: dict[str, Any] | None = None, callbacks: list[TrainerCallback] | None = None) -> None:
    """LLaMA-Factory's `run_exp`, balanced as the section `hbo` of `args` says.

    Args:
        args: LLaMA-Factory's arguments and `hbo`; absent: those of the YAML that the command line names.
        callbacks: Further ones.

    Raises:
        HBOError: The section, or an option of LLaMA-Factory's, can't be used.
    """
    try:
        found = tuner.read_args(args)
    except FileNotFoundError as error:
        raise ConfigError(f"{error.filename}: no such file; give the path of LLaMA-Factory's YAML") from None
    if not isinstance(found, dict):
        raise ConfigError("options on the command line can't hold an `hbo:` section; give a YAML file, then key=value")
    section, rest = section_of(found.get("hbo")), {key: value for key, value in found.items() if key != "hbo"}
    if tuner.get_ray_args(rest).use_ray:
        raise ConfigError("USE_RAY trains in processes of Ray's own, where HBO can't run; leave it out")
    if (count := get_device_count()) > 1 and "LOCAL_RANK" not in os.environ:
        raise ConfigError(
            f"{count} devices are seen by one process; start with torchrun --nproc-per-node {count} -m "
            "hbo.integrations.llama_factory, or let CUDA_VISIBLE_DEVICES name one device"
        )
    wrapped = _Wrapped(section)
    places: list[tuple[Any, str, Callable[..., Any]]] = [
        (tuner, "get_train_args", wrapped.arguments),
        (loader, "_get_merged_dataset", wrapped.merged),
        (loader, "_get_dataset_processor", wrapped.processor),
        *((importlib.import_module(module), name, wrapped.trainer) for module, name in TRAINERS.values()),
    ]
    with ExitStack() as stack:
        for module, name, wrapper in places:
            stack.callback(setattr, module, name, original := getattr(module, name))
            setattr(module, name, partial(wrapper, original))
        tuner.run_exp(rest, callbacks)


class _Wrapped:
    """What is done around functions of LLaMA-Factory's, `original`, in the order in which it calls them."""

    def __init__(self, section: TrainerSection) -> None:
        self.section = section
        self.stage: str = ""
        self.data_args: Any = None

    def arguments(self, original: Callable[..., Any], args: Any) -> Any:
        """The arguments, unless HBO can't go with them."""
        found = _, data, training, tuning, _ = original(args)
        is_mixed = tuning.stage == "sft" and data.packing and not data.neat_packing
        refused = {
            f"stage {tuning.stage} isn't one that HBO balances ({', '.join(TRAINERS)})": tuning.stage not in TRAINERS,
            "USE_MCA has a trainer of Megatron's, which HBO can't be put into; leave it out": tuning.use_mca,
            "use_hyper_parallel has a trainer that HBO can't be put into; leave it out": tuning.use_hyper_parallel,
            "streaming leaves HBO no rows to choose from; set it to false": data.streaming,
            "disable_shuffling asks for the rows in order, but HBO draws them; leave it out": tuning.disable_shuffling,
            "packing lets the examples of a row attend to each other, so that none can be measured by itself; set "
            "neat_packing: true, which is done within groups, or packing: false": is_mixed,
        }
        if training.do_train and (said := [sentence for sentence, is_so in refused.items() if is_so]):
            raise ConfigError(said[0])
        self.stage, self.data_args = tuning.stage, data
        return found

    def merged(self, original: Callable[..., Any], *args: Any, return_dict: bool = False) -> Any:
        """The datasets in one, each row with the name that the user gave its dataset."""
        found = original(*args, return_dict=True)
        if found is None or return_dict:
            return found
        named = [rows.add_column("hbo_dataset", [name] * len(rows)) for name, rows in found.items()]
        _, _, data_args, training_args, _ = args
        return loader.merge_dataset(named, data_args, seed=training_args.seed)

    def processor(self, original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What makes tokens, dataset by dataset; packing is left until the levels are known."""
        return GroupByGroup(original(*args, **options))

    def trainer(self, original: Callable[..., Any], **options: Any) -> Trainer:
        """The trainer, with HBO in it."""
        trainer: Trainer = original(**options)
        if not trainer.args.do_train:
            return trainer
        if "hbo_dataset" not in trainer.train_dataset.column_names:
            raise DataError(
                "the rows at tokenized_path were made without HBO and don't name their dataset; give a new folder"
            )
        is_packed, unseen = self.data_args.neat_packing, ("labels",) if self.stage == "pt" else (PACKED,)
        regroup = partial(packed, trainer=trainer, data_args=self.data_args) if is_packed else None
        callback = attach(trainer, self.section, regroup=regroup, unseen=unseen)
        callback.say = tuner.logger.info_rank0
        return trainer


def start() -> None:
    """The command; what the user can mend is one sentence and exit code 2."""
    try:
        run_exp()
    except HBOError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    from hbo.integrations import llama_factory  # by this name rows are cached, and other processes find it

    llama_factory.start()
