"""Unsloth's FastLanguageModel in TRL's SFTTrainer, whole, and killed and resumed.

Without a GPU unsloth trains by a backend of its own for CPUs; its fused kernels aren't met here.
"""

import os
import sys
from pathlib import Path

import check
import tiny
from killed import run, run_and_kill

STEPS = 24


def main(work):
    """Trains both ways and compares what they left."""
    work = Path(work)
    tiny.write(work)
    options = {"cwd": work, "env": {**os.environ, "HBO_CACHE": str(work / "cache"), "UNSLOTH_DISABLE_STATISTICS": "1"}}
    whole, resumed = work / "whole", work / "resumed"
    run(command(whole), work / "whole.log", **options)
    run_and_kill(command(resumed), work / "resumed.log", resumed, last_step=STEPS, **options)
    run(command(resumed, "resume"), work / "resumed.log", **options)
    check.main(whole, resumed)


def command(output, *more):
    """A user's script."""
    return [sys.executable, Path(__file__).with_name("script.py"), str(output), str(STEPS), *more]


if __name__ == "__main__":
    main(*sys.argv[1:])
