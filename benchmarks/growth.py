"""Claim: the cost of an update grows linearly with the number of groups and not at all with the number of rows.

A group's probes are the same everywhere (8 rows of 24 tokens, a tiny random Llama), so that only the number of groups
(datasets × 4 levels), or that of rows, differs. An update is all that a training run waits for: measuring and the
actors' learning. There is no reference; every size is timed in turn in each round.

    python benchmarks/growth.py [--groups 16,32,64,128,256] [--rows 10000,100000,1000000] [--rounds 5] [--plots docs]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from support.plot import write_curve
from support.side_by_side import say, seconds
from transformers import LlamaConfig, LlamaForCausalLM

from hbo.config import HBOConfig
from hbo.core.algorithm import HBO
from hbo.rewards.probe import Probe
from hbo.training.groups import groups_of

_LEVELS, _PROBES, _TOKENS, _VOCABULARY = 4, 8, 24, 512
_CHUNK = 100_000


def mixture(folder: Path, datasets: int, rows: int) -> Dataset:
    """Random tokens in a memory-mapped file, spread evenly over datasets and levels."""
    names = [f"d{k:03d}" for k in range(datasets)]
    random = np.random.default_rng(0)
    wide = pa.list_(pa.int32())
    fields = [("input_ids", wide), ("labels", wide), ("hbo_dataset", pa.string()), ("hbo_level", pa.int64())]
    schema = pa.schema([*fields, ("hbo_reference", pa.float64())])
    file = folder / f"{datasets}-{rows}.arrow"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for start in range(0, rows, _CHUNK):
            number = np.arange(start, min(start + _CHUNK, rows))
            ids = random.integers(0, _VOCABULARY, (len(number), _TOKENS), dtype=np.int32)
            ends = np.arange(0, ids.size + 1, _TOKENS, dtype=np.int32)
            tokens = pa.ListArray.from_arrays(pa.array(ends), pa.array(ids.ravel()))
            name = pa.array(names).take(pa.array(number // _LEVELS % datasets))
            columns = [tokens, tokens, name, pa.array(number % _LEVELS), pa.array(np.ones(len(number)))]
            writer.write(pa.record_batch(columns, schema=schema))
    return Dataset.from_file(str(file))


def updater(rows: Dataset, model: LlamaForCausalLM) -> Callable[[], object]:
    """What makes one update after the other."""
    groups, config = groups_of(rows), HBOConfig(probes=_PROBES * _LEVELS)
    balancer, probe = HBO(groups, config), Probe(rows, groups, config, pad_token_id=0)
    probe.measure_reference(model)
    steps = count(1)

    def update() -> None:
        step = next(steps)
        balancer.update(probe.measure(model, step), step=step, start=step)

    return update


def medians(updates: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of each, all of them in turn in every round."""
    for update in updates:
        update()
    times = [[seconds(update) for update in updates] for _ in range(rounds)]
    return [round(statistics.median(column), 5) for column in zip(*times, strict=True)]


def main() -> None:
    """Prints the figures and draws both curves."""
    words = argparse.ArgumentParser()
    words.add_argument("--groups", default="16,32,64,128,256")
    words.add_argument("--rows", default="10000,100000,1000000")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--plots", type=Path, default=Path(__file__).parent.parent / "docs")
    given = words.parse_args()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=_VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
        )
    )
    groups = [int(word) for word in given.groups.split(",")]
    rows = [int(word) for word in given.rows.split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        by_groups = medians([updater(mixture(folder, n // _LEVELS, 100 * n), model) for n in groups], given.rounds)
        by_rows = medians([updater(mixture(folder, 4, n), model) for n in rows], given.rounds)
    write_curve(
        given.plots / "growth-groups.svg", "Seconds per update by groups", "groups (datasets × levels)", "seconds",
        groups, by_groups,
    )  # fmt: skip
    write_curve(
        given.plots / "growth-rows.svg", "Seconds per update by rows, 16 groups", "rows in the mixture", "seconds",
        rows, by_rows, log_x=True,
    )  # fmt: skip
    say(
        "the cost of an update by groups and by rows",
        groups=groups,
        seconds_by_groups=by_groups,
        growth_exponent_of_groups=round(float(np.polyfit(np.log(groups), np.log(by_groups), 1)[0]), 3),
        rows=rows,
        seconds_by_rows=by_rows,
        most_over_fewest_rows=round(by_rows[-1] / by_rows[0], 3),
        rounds=given.rounds,
    )


if __name__ == "__main__":
    main()
