"""Runs that go on, made of files: no process of theirs trains."""

import json
import time

from example_runs import read_lines, write_json, write_lines, write_run

from hbo.folder.status import new_status, write_status


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
        now = time.time()
        going = {"phase": "training", "done": 60, "total": 120, "began": now - 30, "trains": True}
        told = new_status(now).model_copy(update={**going, **changes})
        write_status(self.folder, told)
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
