"""What can be said of the measuring of gradient norms before any weight is loaded: which way each layer goes.

Whether it really goes that way is found out before the first step (`hbo.rewards.norms.settle`).
"""

from __future__ import annotations

from collections import Counter

import torch
from trl import SFTConfig

from hbo.config import RunConfig
from hbo.errors import first_line
from hbo.rewards import NORM_REWARDS, REWARDS
from hbo.rewards.norms.facts import Facts
from hbo.rewards.norms.recorder import owners_of
from hbo.scoring.models import model_config
from hbo.training.memory import builder


def norms_notes(config: RunConfig, args: SFTConfig, spec: str | None) -> list[str]:
    """How gradient norms will be measured, as `hbo check` prints it; nothing where no reward needs them.

    Args:
        config: Run.
        args: Its `train:`.
        spec: Folder or Hub name of the model; None: what of it lies on this machine.
    """
    balance = config.balance
    wanted = [name for name, function in REWARDS.items() if function in NORM_REWARDS]
    if balance.is_static or not any(reward in wanted for reward in (balance.global_reward, balance.local_reward)):
        return []
    trusts = bool(args.trust_remote_code)
    found = model_config(spec or config.model, trust_remote_code=trusts, offline=spec is None)
    if found is None:
        return []  # the estimate of memory says so already
    try:
        with torch.device("meta"):
            owners = owners_of(builder(config, args)(found), Facts())
    except Exception as error:  # a model that transformers doesn't know raises anything
        return [f"how gradient norms are measured can't be told: this model can't be made ({first_line(error)[:200]})"]
    again = Counter(type(owner.layer).__name__ for owner in owners.values() if owner.again)
    if not again:
        return [
            "gradient norms: a batch in one pass, as far as its layers tell; a few rows are tried before the first step"
        ]
    kinds = ", ".join(f"{name} ({count} of them)" for name, count in again.most_common())
    return [
        f"gradient norms: a batch in one pass, but run again for each row, which is slower: {kinds}; a few rows are "
        "tried before the first step"
    ]
