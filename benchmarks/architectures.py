"""Claim: gradient norms equal autograd's, one row at a time, for every architecture that transformers can train.

Builds every causal language model of transformers tiny, in every variant (full fine-tuning, LoRA, …), measures a padded
batch and compares. One JSON line for each variant, then a summary.

    python benchmarks/architectures.py [--only llama,mixtral] [--rounds 1] [--jobs 2] [--seconds 120]
        [--table docs/architectures.md]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
import transformers
from support.architecture_page import page
from support.measured_variants import in_child
from support.side_by_side import say
from support.tiny_architectures import architectures, why_not
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def main() -> None:
    """Prints the records and the summary, and writes the table if asked."""
    words = argparse.ArgumentParser()
    words.add_argument("--only", default="", help="architectures, with commas between them")
    words.add_argument("--rounds", type=int, default=1, help="how often each variant is timed")
    words.add_argument("--jobs", type=int, default=1)
    words.add_argument("--seconds", type=float, default=120.0, help="the longest that one architecture may take")
    words.add_argument("--table", type=Path, help="the Markdown file to write")
    given = words.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    names = [name for name in given.only.split(",") if name] or architectures()
    found: list[dict[str, Any]] = []
    for records in apart(names, given.rounds, given.jobs, given.seconds):
        found += records
        for record in records:
            print(json.dumps(record), flush=True)
    skipped = {name: why for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if (why := why_not(name))}
    found.sort(key=lambda record: names.index(record["architecture"]))
    summarise(found, skipped)
    if given.table:
        given.table.write_text(page(found, skipped), encoding="utf-8")
    if any(record["outcome"] == "wrong" for record in found):
        raise SystemExit("a norm is wrong")


def apart(names: list[str], rounds: int, jobs: int, seconds: float) -> Iterator[list[dict[str, Any]]]:
    """The records of each architecture, each measured in a process of its own, so that a crash ends only that one."""
    fork = multiprocessing.get_context("fork")  # transformers is imported once
    waiting = list(names)
    running: dict[Any, tuple[str, Any, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop(0)
            here, there = fork.Pipe(duplex=False)
            child = fork.Process(target=in_child, args=(name, rounds, there), daemon=True)
            child.start()
            there.close()
            running[here] = name, child, time.monotonic() + seconds
        ready: list[Any] = wait(list(running), timeout=1.0)
        for pipe in ready:
            name, child, _ = running.pop(pipe)
            try:
                yield pipe.recv()
            except EOFError:
                child.join()
                yield [_ended(name, f"its process ended with {child.exitcode}")]
            child.join()
        for pipe, (name, child, until) in list(running.items()):
            if time.monotonic() > until:
                child.kill()
                del running[pipe]
                yield [_ended(name, f"took longer than {seconds:g} s")]


def _ended(name: str, why: str) -> dict[str, Any]:
    return {"architecture": name, "variant": "all", "outcome": "raises", "why": why}


def summarise(found: list[dict[str, Any]], skipped: dict[str, str]) -> None:
    """Prints how many architectures and variants came out in which way."""
    ways: dict[str, Any] = {}
    for kind, those in (("full", ("full", "tied", "untied")), ("lora", ("lora",)), ("experts", ("lora-experts",))):
        ways[kind] = dict(Counter(record["outcome"] for record in found if record["variant"] in those))
    exact = [record["error"] for record in found if record["outcome"] in ("fast", "rows")]
    say(
        "gradient norms equal autograd's for every architecture",
        architectures=len({record["architecture"] for record in found}),
        variants=len(found),
        outcomes=dict(Counter(record["outcome"] for record in found)),
        **ways,
        largest_relative_error=max(exact, default=None),
        wrong=[f"{record['architecture']} {record['variant']}" for record in found if record["outcome"] == "wrong"],
        raises=[f"{record['architecture']} {record['variant']}" for record in found if record["outcome"] == "raises"],
        skipped=len(skipped),
    )


if __name__ == "__main__":
    main()
