"""Claim: 100 million rows in 50 datasets open in under 10 s, and over a million rows a second are drawn on one core.

The rows are an index only (dataset and level of each), written to a memory-mapped Arrow file first. Memory is what the
process holds beyond its libraries; pages of the mapped file, which the system takes back at will, aren't counted. The
reference draws as the authors' code does: numpy picks dataset and level, row by row, from arrays of row numbers.

    python benchmarks/scale.py [--rows 100000000] [--datasets 50] [--levels 4] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from support.side_by_side import say, seconds, side_by_side

from hbo.config import HBOConfig
from hbo.core.algorithm import HBO
from hbo.training.groups import groups_of

_CHUNK = 1_000_000


def write_index(path: Path, rows: int, datasets: int, levels: int) -> None:
    """Writes the columns `hbo_dataset` and `hbo_level`; sizes fall from dataset to dataset."""
    share = 1 / np.arange(1, datasets + 1)
    border = np.cumsum(share / share.sum()) * rows
    schema = pa.schema({"hbo_dataset": pa.string(), "hbo_level": pa.int8()})
    names = pa.array([f"d{k:02d}" for k in range(datasets)])
    random = np.random.default_rng(0)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for start in range(0, rows, _CHUNK):
            number = np.arange(start, min(start + _CHUNK, rows))
            code = np.minimum(np.searchsorted(border, number, side="right"), datasets - 1)
            level = random.integers(0, levels, len(number)).astype(np.int8)
            writer.write(pa.record_batch([names.take(pa.array(code)), pa.array(level)], schema=schema))


def anonymous_mb() -> float:
    """Memory of this process that is backed by no file."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


@contextmanager
def peak() -> Iterator[list[float]]:
    """The highest `anonymous_mb` while the block runs, above where it began."""
    before, found, over = anonymous_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            found[0] = max(found[0], anonymous_mb() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    yield found
    over.set()
    thread.join()


def main() -> None:
    """Prints the figures."""
    words = argparse.ArgumentParser()
    words.add_argument("--rows", type=int, default=100_000_000)
    words.add_argument("--datasets", type=int, default=50)
    words.add_argument("--levels", type=int, default=4)
    words.add_argument("--rounds", type=int, default=5)
    given = words.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "index.arrow"
        write_index(file, given.rows, given.datasets, given.levels)
        with peak() as memory:
            began = time.perf_counter()
            balancer = HBO(groups_of(Dataset.from_file(str(file))), HBOConfig())
            opened = time.perf_counter() - began
            count, at = 1_000_000, 0
            speeds = []
            for _ in range(given.rounds):
                speeds.append(count / seconds(partial(balancer.stream.rows, at, at + count)))
                at += count
    groups = balancer.groups
    random = np.random.default_rng(0)
    offsets, p_K, few = groups.offsets, balancer.p_K, 20_000

    def one_by_one() -> None:
        for _ in range(few):
            k = random.choice(given.datasets, p=p_K)
            cell = k * groups.levels + random.choice(groups.levels)
            groups.order_N[offsets[cell] + random.integers(offsets[cell + 1] - offsets[cell])]

    places = iter(range(at, 2**62, few))

    def ours() -> None:
        start = next(places)
        balancer.stream.rows(start, start + few)

    say(
        "opening and drawing from a large mixture",
        rows=given.rows,
        datasets=given.datasets,
        open_seconds=round(opened, 2),
        peak_mb=round(memory[0]),
        draws_per_second=round(statistics.median(speeds)),
        against_one_by_one=side_by_side(ours, one_by_one, given.rounds),
    )


if __name__ == "__main__":
    main()
