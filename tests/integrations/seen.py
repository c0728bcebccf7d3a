"""What a trainer really trains on, seen from outside of hbo: `seen.jsonl` in its output folder."""

import json
import os
from pathlib import Path

from tiny import MARK_IDS
from transformers import Trainer


def watch():
    """From now on every trainer of this process writes a line per batch: its step, and how many rows of each dataset.

    Patching is right here, and only here: what hbo says that it has drawn is to be compared with what another saw.
    """
    train = Trainer.training_step

    def training_step(self, model, inputs, *args, **kwargs):
        rows = {name: int((inputs["input_ids"] == mark).sum()) for name, mark in MARK_IDS.items()}
        with (Path(self.args.output_dir) / "seen.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"process": os.getpid(), "step": self.state.global_step + 1, "rows": rows}) + "\n")
        return train(self, model, inputs, *args, **kwargs)

    Trainer.training_step = training_step


def seen(folder):
    """Step → dataset → rows; of a step that was taken again after a kill, only what was seen the last time."""
    found, last = {}, None
    for line in (Path(folder) / "seen.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        step, rows = record["step"], record["rows"]
        if record["process"] != last:  # it goes on from a checkpoint
            found = {before: counts for before, counts in found.items() if before < step}
        last = record["process"]
        counts = found.setdefault(step, dict.fromkeys(MARK_IDS, 0))
        for name, count in rows.items():
            counts[name] += count
    return found
