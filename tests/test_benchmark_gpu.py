"""The benchmark for a GPU runs to its end wherever it is tried, and what goes wrong in one stage stays there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prose import ROOT

STAGES = ("correctness", "memory", "cost", "scoring", "training", "exactness", "comparison")
KEYS = {"ok", "error", "figures", "reference", "ratio", "goals", "device", "versions", "commit", "peak_gib", "seconds"}


def bench(*words, fails=False, **environment):
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fails, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_every_stage_runs_at_toy_size(tmp_path):
    printed = lines(bench("--toy", "--output", tmp_path).stdout)
    assert [line["name"] for line in printed] == list(STAGES)
    for line in printed:
        assert set(line) >= KEYS
        assert line["ok"], line
        assert line["figures"]
        assert [goal for goal in line["goals"] if goal["met"] is False] == []
    assert lines((tmp_path / "lines.jsonl").read_text()) == printed
    assert {path.name for path in (tmp_path / "comparison").iterdir()} == {
        "results.jsonl",
        "comparison.md",
        "comparison.html",
    }
    labels = [line["label"] for line in lines((tmp_path / "comparison" / "results.jsonl").read_text())]
    assert sorted(labels) == ["hbo, mixture.temperature=inf", "uniform"]


def test_a_stage_that_hangs_is_ended_and_the_next_one_runs(tmp_path):
    # Its limit is over before it has imported what it needs.
    done = bench("--toy", "--stages", "6,1", "--minutes", 1 / 600, "--output", tmp_path, fails=True)
    found = lines(done.stdout)
    assert [line["stage"] for line in found] == [1, 6]
    for line in found:
        assert not line["ok"]
        assert line["error"].startswith("stopped at its limit of ")


def test_a_stage_that_fails_says_why_and_the_others_go_on(tmp_path):
    done = bench("--toy", "--stages", "7", "--data", tmp_path / "nowhere", "--output", tmp_path, fails=True)
    (line,) = lines(done.stdout)
    assert not line["ok"]
    assert "nowhere" in line["error"]
    assert "Traceback" in done.stderr


def test_stopped_from_outside_it_leaves_no_process(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--toy", "--stages", "6", "--output", tmp_path]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        children = until(lambda: of_parent(process.pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
        # One that was just being started isn't ended but left without anything to do: it goes once it has imported.
        until(lambda: not [child for child in children if alive(child)])
    finally:
        process.kill()


def of_parent(pid):
    found = []
    for file in Path(f"/proc/{pid}/task/{pid}").glob("children"):
        found += [int(child) for child in file.read_text().split()]
    return found


def alive(pid):
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"  # one that nobody has asked for its exit code is over too


def until(found, seconds=60):
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("--toy", "--output", ROOT / "results" / "gpu"), "toy runs measure nothing"),
        (("--stages", "3,9"), "there is no stage '9'"),
    ],
)
def test_what_cannot_be_meant_is_refused(words, fragment):
    done = bench(*words, fails=True)
    assert done.returncode == 2
    assert fragment in done.stderr
    assert done.stdout == ""


def test_the_help_lists_the_stages():
    said = bench("--help").stdout
    for name in STAGES:
        assert name in said
