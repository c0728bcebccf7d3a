"""Two runs that must have taken the same course, whatever number of processes each had."""

import json
import os
import subprocess
import sys

import pytest


def launch(*words, fails=False, cache=None):
    """The finished command `python words…`, which must have ended well, or badly if it `fails`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if cache is not None:
        environment["HBO_CACHE"] = str(cache)
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
    assert (done.returncode != 0) == fails, done.stdout[-1000:] + done.stderr[:2000] + done.stderr[-3000:]
    return done


def records(folder):
    """The lines of a run's ledger, without their times."""
    lines = (folder / "balance.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def assert_one_course(one, two):
    """The same rows in the same steps, and the same rewards and probabilities but for rounding."""
    assert [record["step"] for record in one] == [record["step"] for record in two] == [0, 3, 6, 9]
    for left, right in zip(one, two, strict=True):
        assert left["drawn"] == right["drawn"]
        assert left["start"] == right["start"]
        assert left["probe_examples"] == right["probe_examples"]
        for name in ("a", "b"):
            assert right["global"][name] == pytest.approx(left["global"][name], rel=1e-4)
            assert right["local"][name] == pytest.approx(left["local"][name], rel=1e-4)
            for reward in ("global_reward", "local_reward"):
                if left[reward] is not None:
                    assert right[reward][name] == pytest.approx(left[reward][name], rel=1e-3, abs=1e-6)
