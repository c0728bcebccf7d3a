"""How long a run is, and what it would do, before any model is loaded."""

from __future__ import annotations

import math
from typing import Any

from trl import SFTConfig

from hbo.config import RunConfig
from hbo.core.prior import weighted_prior
from hbo.data.mixture import dataset_sizes
from hbo.scoring.levels import count_left
from hbo.training.attach import groups_of
from hbo.training.prepare import Data, weights


def plan(config: RunConfig, data: Data, args: SFTConfig) -> dict[str, Any]:
    """What a run would do, without a model: sizes, prior, steps, updates and probes."""
    share = config.difficulty.drop_easiest
    sizes = {name: count_left(size, share) for name, size in data.sizes.items()}
    q_K = weighted_prior(sizes, config.balance.temperature, weights(config, list(sizes)))
    whole = _packed_sizes(config, data, args) if args.packing else data.sizes
    packed = {name: count_left(size, share) for name, size in whole.items()}
    # Of packed rows, those of a dataset whose rows hold more examples are drawn less often.
    odds = {name: float(q) * packed[name] / sizes[name] for name, q in zip(sizes, q_K, strict=True)}
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    steps = _steps(args, sum(whole.values()))
    updates = sum(any(config.balance.due(step)) for step in range(1, steps + 1))
    return {
        "method": config.balance.method,
        "rows": sizes,
        "packed_rows": packed if args.packing else None,
        "held_out": dataset_sizes(data.held_out) if len(data.held_out) else {},
        "prior": dict(zip(sizes, q_K.tolist(), strict=True)),
        "groups": len(sizes) * config.difficulty.groups,
        "batch": batch,
        "steps": steps,
        "updates": updates,
        "probes_per_update": config.balance.probes * len(sizes),
        "epochs": {name: steps * batch * odds[name] / sum(odds.values()) / packed[name] for name in odds},
    }


def _packed_sizes(config: RunConfig, data: Data, args: SFTConfig) -> dict[str, int]:
    """About how many rows each dataset's examples are packed into: the exact rows depend on groups not known yet."""
    groups = groups_of(data.train)
    assert groups.length_N is not None and args.max_length is not None
    found = {}
    for name in data.sizes:
        tokens = int(groups.length_N[groups.rows(groups.datasets.index(name), 0)].sum())
        found[name] = max(config.difficulty.groups, math.ceil(tokens / args.max_length))
    return found


def keep_steps(args: SFTConfig, rows: int) -> None:
    """Makes training as long as its epochs are over `rows` rows, before any are dropped."""
    if args.max_steps <= 0:
        args.max_steps = _steps(args, rows)


def _steps(args: SFTConfig, rows: int) -> int:
    if args.max_steps > 0:
        return int(args.max_steps)
    batches = math.ceil(rows / (args.per_device_train_batch_size * args.world_size))
    steps: int = math.ceil(args.num_train_epochs * math.ceil(batches / args.gradient_accumulation_steps))
    return steps
