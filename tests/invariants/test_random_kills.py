"""`python -m hbo train`, killed from outside at random times, again and again: the end is the same, bit for bit."""

import os
import random
import subprocess
import sys
import time

import pytest
from killed_runs import results
from tiny_runs import TRAIN, cache, config, model_folder, tokenizer  # noqa: F401 - fixtures

KILLS = 4


def start(file, output, *words):
    command = [sys.executable, "-m", "hbo", "train", str(file), "--output", str(output), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def has_begun(process, output, before):
    """Waits until training begins, which is when the ledger is written anew; False if the run ends before that."""
    while stamp(output) == before:
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    return True


def stamp(output):
    file = output / "balance.jsonl"
    return file.stat().st_ino if file.exists() else None


def ended(process):
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said[-2000:]


@pytest.mark.slow
def test_a_run_killed_at_random_times_ends_as_if_it_had_not_been(config, tmp_path):  # noqa: F811
    file = config(train={**TRAIN, "max_steps": 24, "save_steps": 3, "save_total_limit": 1})
    whole, output = tmp_path / "whole", tmp_path / "killed"
    process = start(file, whole)
    assert has_begun(process, whole, None)
    began = time.monotonic()
    ended(process)
    seconds = time.monotonic() - began

    killed, words = 0, []
    for _ in range(KILLS):
        before = stamp(output)
        process = start(file, output, *words)
        if has_begun(process, output, before):
            time.sleep(random.uniform(0, seconds / 2))
            process.kill()
        process.communicate(timeout=300)
        killed += process.returncode == -9
        words = ["--resume"]
    assert killed >= 1
    ended(start(file, output, "--resume"))
    assert results(output) == results(whole)
