"""A stage's own process: `python -m benchmarks.gpu.child NUMBER SETTINGS REPORT`.

It imports what it needs, then waits for a line on its standard input: the seconds that it has from now on.
"""

from __future__ import annotations

import importlib
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from . import machine
from .clock import peak_gib
from .plan import STAGES
from .report import Report, said
from .settings import Settings


def main() -> None:
    """Runs the stage; exit code 1 if it fails."""
    number, settings_file, report_file = sys.argv[1:]
    stage = STAGES[int(number) - 1]
    settings = Settings.read(Path(settings_file))
    module = importlib.import_module(f"{__package__}.{stage.name}")
    line = sys.stdin.readline()
    if not line:
        return  # the parent is gone
    began, seconds = time.monotonic(), float(line)
    report = Report(Path(report_file), judges_speed=settings.size == "full" and machine.device().type == "cuda")
    report.line |= machine.machine()
    report.save()
    code = 0
    heard: Counter[str] = Counter()
    warnings.showwarning = lambda message, *rest, **options: heard.update([str(message)[:200]])
    try:
        module.run(settings, seconds, report)
        if failed := report.line.pop("failed", None):
            raise RuntimeError(f"{len(failed)} parts failed: {', '.join(failed)}")
    except BaseException as error:
        traceback.print_exc()
        report.line["error"] = said(error)
        code = 1
    report.line |= {
        "ok": not code,
        "peak_gib": peak_gib(),
        "warnings": dict(heard.most_common(8)),
        "stage_seconds": round(time.monotonic() - began, 1),
    }
    report.save()
    sys.exit(code)


if __name__ == "__main__":
    main()
