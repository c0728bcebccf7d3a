"""The stages one after the other, each in a process that is ended at its limit; their lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .plan import Stage
from .settings import Settings

ROOT = Path(__file__).parents[2]
_ENOUGH_CORES = 8
_TAIL = 40


@dataclass(frozen=True)
class Limits:
    """What a stage may take: its own seconds, times `patience`, and never more than is left of the whole."""

    total: float
    patience: float = 1.0

    def of(self, stage: Stage, spent: float) -> float:
        """Seconds for a stage that begins now."""
        left = self.total - spent
        return left if stage.seconds is None else min(left, stage.seconds * self.patience)


def run_stages(
    stages: Sequence[Stage], settings: Settings, limits: Limits, finished: Callable[[dict[str, Any]], None]
) -> int:
    """How many stages failed; `finished` hears each one's line.

    Where there are many cores, or nothing is measured, the next stage imports what it needs while one runs.
    """
    began = time.monotonic()
    early = settings.size == "toy" or (os.cpu_count() or 1) >= _ENOUGH_CORES
    started: dict[int, _Process] = {}
    failed = 0
    try:
        for place, stage in enumerate(stages):
            process = started.pop(stage.number, None) or _Process(stage, settings)
            started[stage.number] = process  # ended with the others when this is interrupted
            if early and place + 1 < len(stages):
                later = stages[place + 1]
                started[later.number] = _Process(later, settings)
            line = process.result(limits.of(stage, time.monotonic() - began))
            del started[stage.number]
            failed += not line["ok"]
            finished(line)
    finally:
        for process in started.values():
            process.end()
    return failed


class _Process:
    """A stage's process, started but not yet told to begin."""

    def __init__(self, stage: Stage, settings: Settings) -> None:
        self.stage, self.settings = stage, settings
        scratch = Path(settings.scratch) / f"stage-{stage.number}"
        scratch.mkdir(parents=True)
        replace(settings, scratch=str(scratch)).write(scratch / "settings.json")
        self.report, self.log = scratch / "report.json", scratch / "log"
        command = [sys.executable, "-m", f"{__package__}.child", str(stage.number)]
        command += [str(scratch / "settings.json"), str(self.report)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=environment(stage, settings, scratch),
                process_group=0,  # so that all that it starts can be ended with it
            )

    def result(self, seconds: float) -> dict[str, Any]:
        """The stage's line, after it has run or its time is up."""
        began = time.monotonic()
        error = None
        try:
            self.process.communicate(f"{seconds}\n".encode(), timeout=max(0.0, seconds))
            if self.process.returncode:
                error = _ended_by(self.process.returncode)
        except subprocess.TimeoutExpired:
            error = f"stopped at its limit of {seconds:.0f} s"
        self.end()
        found = json.loads(self.report.read_text(encoding="utf-8")) if self.report.exists() else {}
        line = {
            "stage": self.stage.number,
            "name": self.stage.name,
            "ok": error is None,
            "error": found.pop("error", None) or error,
            "size": self.settings.size,
            **{key: value for key, value in found.items() if key != "ok"},
            "seconds": round(time.monotonic() - began, 1),
            "limit_seconds": round(seconds, 1),
        }
        if error is not None:
            self._explain()
        return line

    def end(self) -> None:
        """Ends the process and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()

    def _explain(self) -> None:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
        print("\n".join(f"    {line}" for line in lines), file=sys.stderr, flush=True)


def environment(stage: Stage, settings: Settings, scratch: Path) -> dict[str, str]:
    """This process's, with the checkout's own hbo before all others, one GPU, and without the Hub."""
    paths = [str(ROOT / "src")]
    paths += [str(Path(path).absolute()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(scratch / "datasets"),
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0],  # else a trainer takes all
        **({"HBO_CACHE": str(scratch / "cache")} if settings.size == "toy" else {}),
        **stage.environment,
    }


def _ended_by(code: int) -> str:
    if code < 0:
        return f"ended by {signal.Signals(-code).name}" + (", perhaps for lack of memory" if code == -9 else "")
    return f"exit code {code}"
