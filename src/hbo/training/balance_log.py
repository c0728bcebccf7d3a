"""What the trainer's log and warnings say of the balancing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from hbo.arrays import Floats, Ints
from hbo.core.groups import Groups
from hbo.core.ledger import Entry
from hbo.core.prior import MANY_PASSES
from hbo.errors import ConfigError


def check_names(datasets: Sequence[str]) -> None:
    """Refuses names whose keys in the log would be those of another dataset's groups.

    Raises:
        ConfigError: A dataset is called like another with a group's number behind it.
    """
    for name in datasets:
        other, _, number = name.rpartition("/")
        if other in datasets and number.startswith("g") and number[1:].isdecimal():
            raise ConfigError(
                f"dataset '{name}' has the name that the log gives to group {number} of dataset '{other}'; rename it"
            )


def scalars(groups: Groups, entry: Entry, drawn_KL: Ints) -> dict[str, float]:
    """The ledger's new entry as scalars for the trainer's log; `drawn_KL` are rows since the start of training."""
    found: dict[str, float] = {"balance/seconds": entry.seconds}
    epochs_K = drawn_KL.sum(axis=1) / groups.sizes_K
    for k, name in enumerate(groups.datasets):
        found[f"balance/p/{name}"] = float(entry.p_K[k])
        found[f"balance/drawn/{name}"] = int(drawn_KL[k].sum())
        found[f"balance/epochs/{name}"] = float(epochs_K[k])
        if entry.global_reward_K is not None:
            found[f"balance/reward/{name}"] = float(entry.global_reward_K[k])
        for j in range(groups.levels if groups.levels > 1 else 0):
            found[f"balance/p/{name}/g{j + 1}"] = float(entry.q_KL[k, j])
            if entry.local_reward_KL is not None:
                found[f"balance/reward/{name}/g{j + 1}"] = float(entry.local_reward_KL[k, j])
    return {key: value for key, value in found.items() if np.isfinite(value)}


def losses(groups: Groups, sum_KL: Floats, tokens_KL: Floats) -> dict[str, float]:
    """Training loss per target token of each dataset (and group, when it has several) seen since the last log."""
    found: dict[str, float] = {}
    for k, name in enumerate(groups.datasets):
        if tokens_KL[k].sum():
            found[f"loss/{name}"] = float(sum_KL[k].sum() / tokens_KL[k].sum())
        for j in range(groups.levels if groups.levels > 1 else 0):
            if tokens_KL[k, j]:
                found[f"loss/{name}/g{j + 1}"] = float(sum_KL[k, j] / tokens_KL[k, j])
    return found


def warn_skipped(count: int) -> None:
    """Says that some rewards couldn't be measured."""
    warnings.warn(
        f"{count} rewards were zero, negative or not finite, so they were ignored; look for rows with extreme losses",
        UserWarning,
        stacklevel=2,
    )


def warn_repeats(groups: Groups, drawn_KL: Ints, warned: set[str]) -> None:
    """Says, once per dataset, that rows of one of its groups are about to be seen for the fourth time."""
    for k, name in enumerate(groups.datasets):
        passes_L = drawn_KL[k] / np.maximum(groups.sizes_KL[k], 1)
        if passes_L.max() >= MANY_PASSES - 1 and name not in warned:
            warned.add(name)
            warnings.warn(
                f"dataset '{name}': the rows of g{int(passes_L.argmax()) + 1} are about to be seen for the "
                f"{MANY_PASSES}th time; add rows, train for fewer steps, or lower its share",
                UserWarning,
                stacklevel=2,
            )
