"""What balancing must have left in two output folders of a trainer: one of a whole run, one killed and resumed.

python check.py WHOLE RESUMED
"""

import itertools
import json
import math
import sys
from pathlib import Path

import torch
from killed import whole_checkpoints
from safetensors.torch import load_file
from seen import seen
from tiny import MARKS

UPDATES = 3
MOVED = 0.01  # of a dataset's probability, from the start to the last update
SIGMAS = 5


def main(whole, resumed):
    """Says in a few lines what was found; the first thing that isn't as it must be ends it."""
    records, again = ledger(whole), ledger(resumed)
    check_moved(records)
    check_drawn(records)
    check_seen(records, seen(whole))
    assert records == again, f"the resumed run's ledger differs from the whole run's: {resumed}"
    assert seen(whole) == seen(resumed), f"the resumed run trained on other rows than the whole run: {resumed}"
    count = check_weights(whole, resumed)
    p = {name: f"{records[0]['global'][name]:.3f} to {records[-1]['global'][name]:.3f}" for name in MARKS}
    print(f"{len(records) - 1} updates moved {p}; the batches held what the ledger says")
    print(f"killed and resumed: ledger, rows and {count} weights are the whole run's, bit for bit")


def ledger(folder):
    """The lines of `balance.jsonl`, without what a clock says."""
    text = (Path(folder) / "balance.jsonl").read_text(encoding="utf-8")
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in text.splitlines()]


def check_moved(records):
    """Updates were made, about the user's datasets, and moved something."""
    assert len(records) > UPDATES, f"{len(records) - 1} updates in balance.jsonl; {UPDATES} are wanted"
    for record in records:
        assert set(record["global"]) == set(MARKS), f"datasets are called {sorted(record['global'])}"
    first, last = records[0]["global"], records[-1]["global"]
    moved = max(abs(last[name] - first[name]) for name in first)
    assert moved > MOVED, f"the probabilities moved by {moved} only: {first} to {last}"
    moved = [
        q != r for name in MARKS for q, r in zip(records[0]["local"][name], records[-1]["local"][name], strict=True)
    ]
    assert len(moved) == len(MARKS) or any(moved), "no group's probability moved"


def check_drawn(records):
    """The rows drawn between two updates fit the probabilities that held there."""
    rows = sum(map(sum, records[1]["drawn"].values())) // (records[1]["step"] - records[0]["step"])
    for before, after in itertools.pairwise(records):
        first, last = before["step"] * rows, after["step"] * rows
        assert sum(map(sum, after["drawn"].values())) == last - first, f"rows are missing: {after['drawn']}"
        for name in MARKS:
            for level, count in enumerate(after["drawn"][name]):
                shares = expected(records, first, last, name, level)
                mean = sum(shares)
                spread = math.sqrt(sum(p * (1 - p) for p in shares))
                assert abs(count - mean) <= SIGMAS * spread + 1, (
                    f"{count} rows of {name}/{level} were drawn before step {after['step']}, {mean:.1f} expected"
                )


def expected(records, first, last, name, level):
    """The group's probability at each row drawn from `first` until before `last`."""
    shares = []
    for row in range(first, last):
        held = max((record for record in records if record["start"] <= row), key=lambda record: record["start"])
        shares.append(held["global"][name] * held["local"][name][level])
    return shares


def check_seen(records, rows):
    """The trainer's batches held the rows that the ledger says were drawn."""
    for before, after in itertools.pairwise(records):
        steps = range(before["step"] + 1, after["step"] + 1)
        for name in MARKS:
            drawn, held = sum(after["drawn"][name]), sum(rows[step][name] for step in steps)
            assert drawn == held, f"{drawn} rows of {name} drawn by step {after['step']}, {held} in the batches"


def check_weights(whole, resumed):
    """How many weights there are in the last checkpoint, the same bits in both and others than in the first."""
    saved, again = whole_checkpoints(whole), whole_checkpoints(resumed)
    assert max(saved) == max(again), f"the runs ended at steps {max(saved)} and {max(again)}"
    end, other, start = weights(saved[max(saved)]), weights(again[max(again)]), weights(saved[min(saved)])
    assert end and end.keys() == other.keys(), f"other weights are in {again[max(again)]}"
    different = [name for name in end if not torch.equal(end[name], other[name])]
    assert not different, f"{len(different)} of {len(end)} weights differ after resuming, {different[0]} first"
    assert min(saved) == max(saved) or any(not torch.equal(end[name], start[name]) for name in end), (
        "nothing was learnt"
    )
    return len(end)


def weights(folder):
    """Name → tensor, of all safetensors of a checkpoint."""
    return {name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
