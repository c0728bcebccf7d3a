"""What `datasets` and the Hub put beside the rows of a dataset: its README, the state of `save_to_disk`, infos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hbo.errors import DataError, first_line

METADATA = {
    "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json",
    "dataset-metadata.json", "croissant.json",
}  # fmt: skip
"""Files of JSON that describe a dataset and hold no rows."""


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote a `Dataset` into `folder`."""
    return "_data_files" in _json(folder / "state.json")


def saved_splits(folder: Path) -> list[str]:
    """The splits of a `DatasetDict` that was saved in `folder`; none if none was."""
    found = _json(folder / "dataset_dict.json").get("splits")
    return [str(name) for name in found] if isinstance(found, list) else []


def is_stale(file: Path) -> bool:
    """Whether an Arrow file is none of the saved dataset's, but left over from work with it (`cache-….arrow`)."""
    if file.suffix != ".arrow":
        return False
    named = _json(file.parent / "state.json").get("_data_files")
    return isinstance(named, list) and file.name not in {str(each.get("filename")) for each in named}


def card_patterns(dataset: str, folder: Path, name: str | None) -> dict[str, list[str]]:
    """Split → patterns of its files, as the README of a cloned repository gives them; nothing if it gives none.

    Args:
        dataset: Its name in the mixture, for errors.
        folder: Of the clone.
        name: Which configuration; None: the default one.

    Raises:
        DataError: There is no such configuration, or several and none is the default.
    """
    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    from datasets.data_files import sanitize_patterns
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub.repocard import metadata_load

    try:
        configs = MetadataConfigs.from_dataset_card_data(metadata_load(readme) or {})
        default = configs.get_default_config_name()
    except Exception as error:  # whatever its YAML holds
        raise DataError(
            f"dataset '{dataset}': the configs in {readme} can't be read ({first_line(error)[:200]}); choose the files "
            "with data_files"
        ) from None
    if not configs:
        return {}
    chosen = name or default
    if chosen not in configs:
        wrong = f"has no configuration '{name}'" if name else "has several configurations"
        raise DataError(f"dataset '{dataset}': {folder} {wrong}; choose one with name: {', '.join(configs)}")
    config: dict[str, Any] = configs[chosen]
    below = f"{config['data_dir'].strip('/')}/" if config.get("data_dir") else ""
    patterns = sanitize_patterns(config.get("data_files") or ["**/*"])
    return {split: [below + pattern for pattern in some] for split, some in patterns.items()}


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
