"""Claim: on a CPU an update is at least 2.5 times as fast as one example at a time, and its rewards equal to 1e-3.

The reference is the published procedure, one example at a time: 32 per dataset forward and backward, whose gradient
norm is the global reward, then 64 per dataset forward, whose perplexity is the local reward. `ratio` is against that;
`ratio_same_probes` against as many forwards as backwards. Both rewards are compared on the 32 rows that ours looks at.
Prints as well what an update costs next to 200 training steps of batch 8, SFTTrainer's own and those of `hbo train`.

    python benchmarks/update.py [--probes 32] [--rounds 5] [--bf16]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import numpy as np
import torch
from support.demo_rows import arguments, batch_of, demo_parts
from support.side_by_side import say, side_by_side
from transformers import TrainerCallback
from trl import SFTTrainer

from hbo import HBOCallback, HBOConfig
from hbo.rewards.probe import Probe
from hbo.run.compact_head import targets_only
from hbo.training.groups import groups_of


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.steps: list[float] = []

    def on_step_begin(self, *args: object, **kwargs: object) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        self.steps.append(time.perf_counter() - self.began)


def main() -> None:
    """Prints the figure."""
    words = argparse.ArgumentParser()
    words.add_argument("--probes", type=int, default=32)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--bf16", action="store_true")
    given = words.parse_args()
    model, tokenizer, rows = demo_parts()
    pad = int(tokenizer.pad_token_id)
    groups = groups_of(rows)
    # A pool of twice the probes, as the reference takes as many rows again for perplexities alone.
    config = HBOConfig(probes=given.probes, probe_pool=-(-2 * given.probes // groups.levels))
    probe = Probe(rows, groups, config, pad_token_id=pad)
    probe.measure_reference(model)
    with torch.no_grad():  # rewards differ from their start only if the model does
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.std() * 0.01)
    precision = torch.autocast("cpu", dtype=torch.bfloat16, enabled=given.bf16)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def ours() -> None:
        with precision:
            rewards = probe.measure(model, step=200)
        assert rewards.global_K is not None and rewards.local_KL is not None
        found["ours"] = rewards.global_K, rewards.local_KL

    extra: list[float] = []  # what the second half of the forwards takes

    def ratio(number: int) -> float:
        with torch.no_grad(), precision:
            now = float(model(**batch_of(rows, [number], pad)).loss)
        return float(np.exp(now - probe.reference[number]))

    def reference() -> None:
        model.eval()
        norm_C = []
        cells = probe.probes(200)
        for numbers in cells:
            norms = []
            for number in numbers.tolist():
                model.zero_grad()
                with precision:
                    loss = model(**batch_of(rows, [number], pad)).loss
                loss.backward()
                norms.append(sum(float(p.grad.square().sum()) for p in model.parameters()) ** 0.5)
            norm_C.append(np.mean(norms))
        model.zero_grad()
        ratio_C = [np.mean([ratio(number) for number in numbers.tolist()]) for numbers in cells]
        began = time.perf_counter()
        for pool, numbers in zip(probe.pool, cells, strict=True):
            for number in np.setdiff1d(pool, numbers)[: len(numbers)].tolist():
                ratio(number)
        extra.append(time.perf_counter() - began)
        shape = groups.sizes_KL.shape
        weight_KL = groups.sizes_KL / groups.sizes_KL.sum(axis=1, keepdims=True)
        found["reference"] = (weight_KL * np.reshape(norm_C, shape)).sum(axis=1), np.reshape(ratio_C, shape)

    figures = side_by_side(ours, reference, given.rounds, warm_up=False)
    gap = max(float(np.abs(a / b - 1).max()) for a, b in zip(found["ours"], found["reference"], strict=True))

    def step_seconds() -> float:
        with tempfile.TemporaryDirectory() as folder:
            clock = _Clock()
            args = arguments(folder, max_steps=7, per_device_train_batch_size=8, learning_rate=1e-6, bf16=given.bf16)
            trainer = SFTTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
            trainer.add_callback(HBOCallback(trainer, HBOConfig(method="proportional")))
            trainer.add_callback(clock)
            trainer.train()
        return statistics.median(clock.steps[1:])

    step = step_seconds()
    with targets_only(torch.device("cpu")):
        fast_step = step_seconds()
    say(
        "update against one example at a time",
        **figures,
        ratio_same_probes=round((figures["reference_seconds"] - statistics.median(extra)) / figures["ours_seconds"], 3),
        largest_relative_gap=gap,
        probes=int(sum(map(len, probe.probes(200)))),
        precision="bf16" if given.bf16 else "fp32",
        step_seconds=round(step, 4),
        overhead_at_200_steps=round(figures["ours_seconds"] / (200 * step), 5),
        hbo_train_step_seconds=round(fast_step, 4),
        overhead_in_hbo_train=round(figures["ours_seconds"] / (200 * fast_step), 5),
    )


if __name__ == "__main__":
    main()
