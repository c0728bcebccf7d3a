"""Runs that go on, made of files: no process of theirs trains."""

import json
import sys
import time
from pathlib import Path

from hbo.folder import status
from hbo.folder.status import Status

REPORT = str(Path(__file__).parents[1] / "report")
sys.path.append(REPORT)  # and not for longer than needed: several folders have a conftest
from example_runs import read_lines, write_json, write_lines, write_run  # noqa: E402

sys.path.remove(REPORT)


class Going:
    """A run of 120 steps in a folder, as far as it has come: 60 steps and 3 updates, in 30 seconds."""

    def __init__(self, folder, sizes=None, groups=4):
        write_run(folder, **({"sizes": sizes} if sizes else {}), groups=groups)
        self.folder, self.lines = folder, read_lines(folder)
        (folder / "metrics.json").unlink()
        (folder / "trainer_state.json").unlink()
        write_lines(folder, self.lines[:4])
        self.log([{"step": 10, "loss": 2.5, "loss/math": 3.0}, {"step": 60, "loss": 2.0, "loss/math": 2.75}])
        self.say()

    def say(self, **changes):
        pid, born, host = status.this_process()
        now = time.time()
        told = Status("training", 60, 120, 0, now - 30, now, True, pid, born, host)
        told = Status(**{**told.__dict__, **changes})
        (self.folder / status.FILE).write_text(told.to_json(), encoding="utf-8")
        return told

    def log(self, entries, mode="w"):
        with (self.folder / "log.jsonl").open(mode, encoding="utf-8") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in entries)

    def update(self, number):
        write_lines(self.folder, self.lines[: number + 1])

    def finish(self):
        self.update(6)
        write_json(self.folder / "metrics.json", {"method": "hbo", "steps": 120})
        self.say(done=120, end="finished")
