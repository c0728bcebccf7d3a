"""How long a run takes, what it does and what that costs, worked out before any model is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from trl import SFTConfig

from hbo.check.cost import norms_notes, scoring_share, update_share
from hbo.check.memory import memory_notes
from hbo.check.warnings import size_warnings
from hbo.config import RunConfig
from hbo.core.prior import ceiled, check_floor, weighted_prior
from hbo.data.held_out import count_held_out, count_used
from hbo.data.inspect_rows import inspect_rows, of_seen
from hbo.data.mixture import dataset_sizes, fraction_of, hold_out, read_mixture
from hbo.data.notes import Note, of_reading
from hbo.data.sources import is_on_hub, open_source
from hbo.progress import Track, silent
from hbo.run.arguments import steps_of
from hbo.run.model import find_model
from hbo.run.rehearsal import check_model, checked_settings
from hbo.run.rows import Data, check_datasets, check_length, read_data, weights_of
from hbo.run.scored_rows import needs_scores, scorer_rows
from hbo.scoring import models
from hbo.scoring.levels import count_left
from hbo.training.best import check_metric
from hbo.training.groups import groups_of

Sizes = dict[str, int | None]
"""Dataset → rows; None where that isn't known."""


@dataclass(frozen=True)
class _Rows:
    """How many rows each dataset has."""

    train: Sizes
    held_out: Sizes
    packed: dict[str, int] | None = None
    unread: tuple[str, ...] = ()
    open_ended: bool = False
    """Whether some datasets aren't known by name, being the parts of one that wasn't read."""
    tokenized: bool = True


def plan_of(config: RunConfig, *, offline: bool = False, track: Track = silent) -> dict[str, Any]:
    """What a run would do: sizes, prior, steps, updates, probes and overhead, and what is to be said of it.

    Args:
        config: Run; it needs no `output`.
        offline: Leave the network alone; what isn't on this machine is then planned for as far as its size is stated.
        track: Hears of reading and tokenising.

    Raises:
        HBOError: The configuration, the model's name or what is read can't be used.
    """
    config, args, lora = checked_settings(config, elsewhere=offline)
    if offline and not _is_all_here(config):
        here = models.resolve(config.model) if models.needs_no_network(config.model) else None
        memory = memory_notes(config, args, here, args.max_length) + norms_notes(config, args, here)
        return _stated(config, args, track) | {"memory": memory}
    found = find_model(config, track)
    check_model(found.spec, args, lora)
    data = read_data(config, found, args, track)
    held = dataset_sizes(data.held_out) if len(data.held_out) else {}
    check_metric(args, list(held))
    packed = _packed_sizes(config, data, args) if args.packing else None
    plan = _plan(config, args, _Rows({**data.sizes}, {**held}, packed))
    if config.difficulty.model is not None and needs_scores(config):
        scorer_rows(config, data.train, args, track)  # says what is wrong with them
    seen = inspect_rows(data.train, data.held_out, data.max_length)
    longest = args.max_length if args.packing else max(each.longest for each in seen.values())
    memory = memory_notes(config, args, found.spec, longest) + norms_notes(config, args, found.spec)
    notes = [*plan["notes"], *data.notes, *of_seen(seen)]
    return plan | {"notes": notes, "tokens": seen, "max_length": data.max_length, "memory": memory}


def _is_all_here(config: RunConfig) -> bool:
    """Whether a run could begin without a network: its models and every source lie on this machine."""
    named = [models.needs_no_network(name) for name in (config.model, config.difficulty.model) if name is not None]
    sources = [source for entry in config.mixture.datasets.values() for source in entry.sources]
    return all(named) and not any(map(is_on_hub, sources))


def _stated(config: RunConfig, args: SFTConfig, track: Track) -> dict[str, Any]:
    """The plan as far as it can be known without a network and without the model's tokenizer.

    A dataset on the Hub has the rows that its `max_rows` allows, or None. Local ones are read and counted, with the
    rows that `max_length` may leave without a response.
    """
    mixture = config.mixture
    unread = tuple(name for name, entry in mixture.datasets.items() if any(map(is_on_hub, entry.sources)))
    counted, held_out, notes = _counted(config, [name for name in mixture.datasets if name not in unread], track)
    train: Sizes = {}
    held: Sizes = {}
    for source, entry in mixture.datasets.items():
        if source in unread:
            for local in (each for each in entry.sources if not is_on_hub(each)):
                open_source(source, local)  # says what is wrong with a file that isn't there
            name, most = f"{source}/*" if entry.group_by else source, None if entry.group_by else entry.max_rows
            held[name] = None if most is None else count_held_out(most, mixture.eval_fraction)
            train[name] = None if most is None else count_used(most - (held[name] or 0), mixture.train_fraction)
        else:
            parts = [name for name in counted if name == source or (entry.group_by and name.startswith(f"{source}/"))]
            train |= {name: counted[name] for name in parts}
            held |= {name: held_out.get(name, 0) for name in parts}
    known = _known(train)
    check_datasets(config, known)
    if len(known) == len(train):
        check_length(config, known, args)
        check_metric(args, [name for name, count in held.items() if count])
    open_ended = any(mixture.datasets[name].group_by for name in unread)
    plan = _plan(config, args, _Rows(train, held, None, unread, open_ended, tokenized=False))
    return plan | {"notes": [*plan["notes"], *notes]}


def _counted(config: RunConfig, names: list[str], track: Track) -> tuple[dict[str, int], dict[str, int], list[Note]]:
    """Dataset → rows to train on, and rows held out, of these entries; and what is to be said of them."""
    if not names:
        return {}, {}, []
    mixture = config.mixture
    data = read_mixture({name: mixture.datasets[name] for name in names}, seed=config.split_seed, track=track)
    train, held = hold_out(data, mixture.eval_fraction, config.split_seed)
    train = fraction_of(train, mixture.train_fraction, config.split_seed)
    return dataset_sizes(train), dataset_sizes(held) if len(held) else {}, list(of_reading(data))


def _packed_sizes(config: RunConfig, data: Data, args: SFTConfig) -> dict[str, int]:
    """About how many rows each dataset's examples are packed into: the exact rows depend on groups not known yet."""
    groups = groups_of(data.train)
    assert groups.length_N is not None and args.max_length is not None
    found = {}
    for name in data.sizes:
        tokens = int(groups.length_N[groups.rows(groups.datasets.index(name), 0)].sum())
        found[name] = max(config.difficulty.groups, math.ceil(tokens / args.max_length))
    return found


def _plan(config: RunConfig, args: SFTConfig, rows: _Rows) -> dict[str, Any]:
    if not rows.open_ended:
        check_floor(config.balance.min_probability, len(rows.train), config.difficulty.groups)
    share = config.difficulty.drop_easiest
    left = {name: None if size is None else count_left(size, share) for name, size in rows.train.items()}
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    # What steps are made of: rows, or packed rows, of which nothing is known before they are tokenised.
    whole = rows.train if not args.packing else rows.packed or dict.fromkeys(left)
    known = _known(whole)
    steps = steps_of(args, sum(known.values())) if args.max_steps > 0 or len(known) == len(whole) else None
    drawn = {name: count_left(size, share) for name, size in known.items()}
    prior = {} if rows.open_ended else _prior(config, left)
    # Of packed rows, those of a dataset whose rows hold more examples are drawn less often.
    odds = {name: q * drawn[name] / (left[name] or 1) for name, q in prior.items() if name in drawn}
    total = sum(odds.values()) if odds and len(odds) == len(left) else None
    passes: dict[str, float] = {}
    if steps and total:
        size_K = np.array([drawn[name] for name in left])
        draws_K = steps * batch * np.array([odds[name] for name in left]) / total
        if config.mixture.max_passes is not None:
            draws_K = ceiled(draws_K, config.mixture.max_passes * size_K)
        passes = dict(zip(left, (draws_K / size_K).tolist(), strict=True))
    shares = {name: value / total for name, value in odds.items()} if total else {}
    found = {
        "method": config.balance.method,
        "rows": left,
        "packed_rows": drawn if args.packing and rows.packed else None,
        "packing": bool(args.packing),
        "held_out": rows.held_out,
        "unread": rows.unread,
        "tokenized": rows.tokenized,
        "prior": {name: prior.get(name) for name in left},
        "datasets": None if rows.open_ended else len(left),
        "groups": config.difficulty.groups,
        "batch": batch,
        "steps": steps,
        "updates": steps and sum(any(config.balance.due(step)) for step in range(1, steps + 1)),
        "epochs": passes or dict.fromkeys(left),
        "epoch": sum(drawn.values()) / batch if len(drawn) == len(left) else None,
        "steps_per_pass": {name: drawn[name] / (batch * share) for name, share in shares.items()},
        "notes": list(size_warnings(config, _known(left), passes)),
        "tokens": {},
        "max_length": None,
    }
    return found | _costs(config, args, found, rows, batch / total if args.packing and total else float(batch))


def _known(sizes: Mapping[str, int | None]) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if size is not None}


def _prior(config: RunConfig, sizes: Sizes) -> dict[str, float]:
    """Dataset → probability; nothing where it depends on sizes that aren't known."""
    weight = weights_of(config, list(sizes))
    temperature = config.balance.temperature
    if any(size is None and name not in weight and temperature != math.inf for name, size in sizes.items()):
        return {}
    q_K = weighted_prior({name: size or 1 for name, size in sizes.items()}, temperature, weight)
    return dict(zip(sizes, q_K.tolist(), strict=True))


def _costs(config: RunConfig, args: SFTConfig, plan: dict[str, Any], rows: _Rows, examples: float) -> dict[str, Any]:
    datasets, steps = plan["datasets"], plan["steps"]
    costs = {
        "probes_per_update": datasets and max(config.balance.probes, config.difficulty.groups) * datasets,
        "update_share": None,
        "scoring_share": None,
    }
    if not steps or datasets is None or (args.packing and not plan["packed_rows"]):
        return costs
    costs["update_share"] = update_share(config, args, steps, examples, datasets)
    sizes = _known(rows.train)
    if len(sizes) == datasets:
        costs["scoring_share"] = scoring_share(config, args, steps, examples, sum(sizes.values()))
    return costs
