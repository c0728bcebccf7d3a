"""Claim: rewards streamed from the training batches move the probabilities as probes do, for under 1% of training.

The course: `recipes/tiny.yaml` trained with `balance.rewards: stream`, with `probe`, and with `probe` under another
seed, as a measure of what chance does. `correlation` is that of how far the log of every probability (4 datasets, 16
groups inside them) has moved from its start, at all updates; `largest_gap` is between probabilities.

The cost: SmolLM2-135M, batch 8, 32 probes per dataset, so 16 steps are watched before each update. `…_overhead` is an
update's seconds in the ledger over those of 200 steps; `watched_steps_overhead` is what watched steps take longer than
the same steps of the run with probes. Steps are as fast as `hbo train` makes them.

    python benchmarks/stream.py [--rounds 5] [--steps 200] [--bf16]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
from support.demo_rows import arguments, demo_parts
from support.side_by_side import say
from transformers import TrainerCallback
from trl import SFTTrainer

from hbo import HBOCallback, HBOConfig
from hbo.config.balance import ActorConfig
from hbo.folder.ledger import read_records
from hbo.folder.paths import LEDGER
from hbo.run.compact_head import targets_only

_EVERY = 200  # the paper's F, to which costs are scaled
_BATCH = 8
_WATCHED = 32 * 4 // _BATCH
_PERIOD = _WATCHED + 4


class _Clock(TrainerCallback):
    """Seconds of each step; hooks are part of it, the update isn't."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.began = time.perf_counter()

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.steps.append(time.perf_counter() - self.began)


def probabilities(folder: Path, words: list[str]) -> np.ndarray:
    """Of every dataset and group at every update (U, K + K·L), of one run of the tiny recipe."""
    recipe = Path(__file__).parent.parent / "recipes" / "tiny.yaml"
    command = [sys.executable, "-m", "hbo", "train", str(recipe), *words, "--output", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    records = [record for _, record in read_records(folder / LEDGER)]
    return np.array([[*r["global"].values(), *(p for q in r["local"].values() for p in q)] for r in records])


def likeness(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """How alike two courses are."""
    moved, also = (np.log(p[1:] / p[0]).ravel() for p in (one, other))
    return {
        "correlation": round(float(np.corrcoef(moved, also)[0, 1]), 4),
        "largest_gap": round(float(np.abs(one - other).max()), 5),
        "largest_move": round(float(np.abs(one - one[0]).max()), 5),
    }


def course(steps: int) -> dict[str, Any]:
    """Likeness of streamed and probed runs, and of two probed runs that differ by chance."""
    common = [f"train.max_steps={steps}", "mixture.split_seed=0", "mixture.eval_accuracy=false"]
    wanted = {"stream": ["balance.rewards=stream"], "probe": [], "other": ["seed=1"]}
    with tempfile.TemporaryDirectory() as folder:
        found = {name: probabilities(Path(folder) / name, [*common, *words]) for name, words in wanted.items()}
    return {
        **likeness(found["probe"], found["stream"]),
        "another_seed": likeness(found["probe"], found["other"]),
        "updates": len(found["probe"]) - 1,
    }


def timed(
    rewards: Literal["probe", "stream"], rounds: int, parts: Any, *, bf16: bool
) -> tuple[np.ndarray, list[float]]:
    """Seconds of each step, one line per update, and of each update as the ledger has them; draws are the same."""
    model, tokenizer, rows = parts
    with tempfile.TemporaryDirectory() as folder:
        options = {"max_steps": rounds * _PERIOD, "per_device_train_batch_size": _BATCH, "learning_rate": 1e-6}
        trainer = SFTTrainer(
            model, args=arguments(folder, bf16=bf16, **options), train_dataset=rows, processing_class=tokenizer
        )
        clock = _Clock()
        trainer.add_callback(clock)
        frozen = ActorConfig(learning_rate=1e-300)
        balance = HBOCallback(trainer, HBOConfig(rewards=rewards, update_every=_PERIOD, actor=frozen))
        trainer.add_callback(balance)
        with targets_only(trainer.args.device):
            trainer.train()
    assert not getattr(balance.balancing.measurer, "failed", False)
    return np.array(clock.steps).reshape(rounds, _PERIOD), [entry.seconds for entry in balance.balancer.ledger][1:]


def cost(rounds: int, *, bf16: bool) -> dict[str, float]:
    """Shares of the time of 200 steps that an update takes, streamed and probed."""
    parts = demo_parts()
    streamed, stream_seconds = timed("stream", rounds, parts, bf16=bf16)
    probed, probe_seconds = timed("probe", rounds, parts, bf16=bf16)
    between = float(np.mean(probed))
    # Row by row the same work but for the hooks; the steps that neither watches show how the machine has changed.
    drift = streamed[:, :-_WATCHED].sum() / probed[:, :-_WATCHED].sum()
    slower = streamed[:, -_WATCHED:].sum(axis=1) - drift * probed[:, -_WATCHED:].sum(axis=1)
    return {
        "stream_overhead": round(statistics.median(stream_seconds) / (_EVERY * between), 5),
        "probe_overhead": round(statistics.median(probe_seconds) / (_EVERY * between), 5),
        "watched_steps_overhead": round(float(np.median(slower)) / (_EVERY * between), 5),
        "step_seconds": round(between, 3),
        "rounds": rounds,
    }


def main() -> None:
    """Prints the figures."""
    words = argparse.ArgumentParser()
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--steps", type=int, default=200)
    words.add_argument("--bf16", action="store_true")
    given = words.parse_args()
    say("streamed rewards cost", **cost(given.rounds, bf16=given.bf16), precision="bf16" if given.bf16 else "fp32")
    say("streamed rewards take the course of probed ones", **course(given.steps))


if __name__ == "__main__":
    main()
