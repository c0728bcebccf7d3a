"""The most that balancing can cost relative to training, counted before anything runs.

The unit is one forward pass of one row. A backward pass is two of them, one for the gradients of the inputs and one for
those of the weights; under LoRA it is one, since nearly all weights are frozen.

    a row trained on    1, its backward, and 1 more where activations are computed twice (checkpointing)
    a probe             1, and a backward if a gradient norm is measured; `ifd_ratio` takes 1 more
    the same of a reward that only a dataset as a whole has: 1, and a backward if gradients are compared; rows that are
                        set aside and looked at too
    a row of a pool     1, once, for its loss under the untuned model; `ifd_ratio` takes 1 more
    a row scored        2, once, with its instruction and without

A norm is computed instead of a weight's gradient and never takes more operations (`hbo.rewards.norms.outer_products`),
except in layers that are run again for each row. All rows count as equally long.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from trl import SFTConfig

from hbo.check.weightless import builder
from hbo.config import HBOConfig, RunConfig
from hbo.config.rewards import REWARDS, is_of_dataset, needs, spec_of
from hbo.rewards.norms.facts import Facts
from hbo.rewards.norms.recorder import owners_of
from hbo.run.arguments import is_checkpointing
from hbo.run.scored_rows import needs_scores
from hbo.scoring.models import model_config
from hbo.text import first_line


def update_share(config: RunConfig, args: SFTConfig, steps: int, examples: float, datasets: int) -> float | None:
    """The work of all updates divided by that of training, at most; None if a reward's work isn't known beforehand.

    `examples` are the rows trained on in one of the `steps`.
    """
    balance = config.balance
    if balance.is_static:
        return 0.0
    both = balance.global_reward, balance.local_reward
    if balance.rewards != "probe" or not all(reward is None or _is_known(reward) for reward in both):
        return None
    probes = datasets * max(balance.probes, config.difficulty.groups)
    work = 0.0
    for step in filter(lambda step: any(balance.due(step)), range(1, steps + 1)):
        due = _measured(balance, step)
        of_rows = [reward for reward in due if _is_of_rows(reward)]
        work += probes * _probe(config, of_rows) if of_rows else 0
        work += sum(_whole(config, reward, probes, datasets) for reward in due if is_of_dataset(reward))
    if of_rows := [reward for reward in both if reward is not None and _is_of_rows(reward)]:
        pool = datasets * config.difficulty.groups * balance.probe_pool
        work += pool * (1 + ("without_instruction" in needs(*of_rows)))
    if "past" in needs(*both):
        work += datasets * balance.probe_pool
    return work / _training(config, args, steps, examples)


def scoring_share(config: RunConfig, args: SFTConfig, steps: int, examples: float, rows: int) -> float | None:
    """The work of scoring `rows` rows once divided by that of training, at most; None if a separate model does it."""
    if not needs_scores(config):
        return 0.0
    if config.difficulty.model is not None:
        return None
    return 2 * rows / _training(config, args, steps, examples)


def norms_notes(config: RunConfig, args: SFTConfig, spec: str | None) -> list[str]:
    """How gradient norms will be measured, as `hbo check` prints it; empty if no reward needs them.

    Whether each layer can really be measured so is tried before the first step (`hbo.rewards.norms.settle`). `spec` is
    the model's folder or Hub name; None: only files on this machine are read.
    """
    balance = config.balance
    if "gradient_norm" not in needs(balance.global_reward, balance.local_reward):
        return []
    trusts = bool(args.trust_remote_code)
    model = model_config(spec or config.model, trust_remote_code=trusts, offline=spec is None)
    if model is None:
        return []  # the estimate of memory says so already
    try:
        with torch.device("meta"):
            owners = owners_of(builder(config, args)(model), Facts())
    except Exception as error:  # a model that transformers doesn't know raises anything
        return [
            f"hbo can't tell how gradient norms will be measured, since transformers can't build this "
            f"model ({first_line(error)[:200]})"
        ]
    again = Counter(type(owner.layer).__name__ for owner in owners.values() if owner.again)
    kinds = ", ".join(f"{name} ({count} of them)" for name, count in again.most_common())
    how = f"but some layers run again for each row, which is slower: {kinds}" if kinds else "judging by its layers"
    return [
        f"gradient norms: measured for a whole batch in one pass, {how}; hbo tries a few rows before the first step"
    ]


def _is_known(reward: object) -> bool:
    spec = spec_of(reward)
    return spec is not None and spec is not REWARDS["lookahead_alignment"]


def _is_of_rows(reward: object) -> bool:
    spec = spec_of(reward)
    return spec is not None and spec.of_a_row


def _probe(config: RunConfig, rewards: list[Any]) -> int:
    wanted = needs(*rewards)
    return 1 + ("gradient_norm" in wanted) * _backward(config) + ("without_instruction" in wanted)


def _whole(config: RunConfig, reward: Any, probes: int, datasets: int) -> int:
    wanted = needs(reward)
    each = 1 + ("whole_gradients" in wanted) * _backward(config)
    if "past" in wanted:
        return each * datasets * config.balance.probe_pool
    dev = datasets * config.balance.probes if "dev_rows" in wanted else 0
    return each * (dev + (0 if dev and "whole_gradients" not in wanted else probes))


def _measured(balance: HBOConfig, step: int) -> list[Any]:
    both = zip((balance.global_reward, balance.local_reward), balance.measured(step), strict=True)
    return [reward for reward, is_due in both if is_due and reward is not None]


def _training(config: RunConfig, args: SFTConfig, steps: int, examples: float) -> float:
    return steps * examples * (1 + _backward(config) + is_checkpointing(args))


def _backward(config: RunConfig) -> int:
    return 2 if config.lora is None else 1
