"""Where the updates pull the probabilities: p ∝ reward, for the actors of which that is the fixed point.

S lines, K datasets, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hbo.config.methods import is_flat
from hbo.folder.run import Run
from hbo.report.tables import Array, Tables, target

# Actors that answer the rewards in another closed form (hbo.core.closed_form); their methods bear the same names.
_ELSEWHERE = frozenset({"loss_softmax", "exp3", "odm"})


@dataclass(frozen=True)
class Targets:
    """Each choice's share of the rewards of its level; NaN where they weren't measured or give no shares."""

    p_SK: Array
    q_SKL: Array


def targets(run: Run, series: Tables) -> Targets:
    """The targets of both levels, over the ledger's lines.

    Under MoS+ one actor holds all groups, so a dataset's target is the share of the rewards that its groups have.

    Raises:
        Nothing.
    """
    if not _ELSEWHERE.isdisjoint({run.actor, run.method}):
        return Targets(np.full(series.reward_SK.shape, np.nan), np.full(series.reward_SKL.shape, np.nan))
    reward_SK = series.reward_SK
    if is_flat(run.method):
        measured = np.isfinite(series.reward_SKL).any(axis=-1)
        reward_SK = np.where(measured, np.nansum(series.reward_SKL, axis=-1), np.nan)
    return Targets(target(reward_SK), target(series.reward_SKL))
