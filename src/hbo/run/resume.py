"""What the configuration of a resumed run must have in common with that of its first start."""

from __future__ import annotations

from typing import Any

import yaml

from hbo.config import RunConfig
from hbo.config.file import dump
from hbo.errors import ResumeError

# A file may move, and transformers decides about `train:`, save for what the rows and the draws depend on.
_MAY_CHANGE = {
    "output",
    "mixture.eval_accuracy",
    "difficulty.examples",
    "balance.min_probability",
    "balance.update_every",
}
_MAY_CHANGE_IN_A_DATASET = {"path", "data_dir", "also", "weight"}
_FIXED_IN_TRAIN = {
    *("max_length", "truncation_mode", "packing", "seed", "data_seed"),
    *("chat_template_path", "eos_token", "pad_token"),
}


def check_config(then: RunConfig, now: RunConfig) -> None:
    """Refuses a configuration that has changed in what may not change between a run and its resumption.

    Raises:
        ResumeError: It has; every such key is named.
    """
    before, after = _flat(yaml.safe_load(dump(then))), _flat(yaml.safe_load(dump(now)))
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key) and not _may_change(key)]
    if changed:
        shown = ", ".join(f"{'.'.join(key)} (was {before.get(key)}, is {after.get(key)})" for key in changed)
        raise ResumeError(
            f"a resumed run can't change {shown}; put it back, or begin a new run. Weights, min_probability and "
            "update_every may change"
        )


def _may_change(key: tuple[str, ...]) -> bool:
    match key:
        case ("mixture", "datasets", _, field):
            return field in _MAY_CHANGE_IN_A_DATASET
        case ("train", *fields):  # none: the section was empty
            return not _FIXED_IN_TRAIN & set(fields[:1])
        case _:
            return ".".join(key) in _MAY_CHANGE


def _flat(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    # Lists and empty mappings are values; a dataset is compared field by field.
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {key: leaf for name, inner in value.items() for key, leaf in _flat(inner, (*path, str(name))).items()}
