"""axolotl by its own command: whole, and killed and resumed.

python run.py FOLDER
"""

import os
import sys
from pathlib import Path

import check
import tiny
from killed import run, run_and_kill

HERE = Path(__file__).parent


def main(folder):
    folder = Path(folder)
    tiny.write(folder / "data")
    axolotl = [sys.executable, "-m", "axolotl.cli.main", "train", str(HERE / "config.yml"), "--launcher", "python"]
    where = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ["PYTHONPATH"]])}}
    run([*axolotl, "--output-dir", "whole"], folder / "whole.log", **where)
    resumed = [*axolotl, "--output-dir", "resumed"]
    run_and_kill(resumed, folder / "killed.log", folder / "resumed", last_step=30, **where)
    run([*resumed, "--auto-resume-from-checkpoints"], folder / "resumed.log", **where)
    check.main(folder / "whole", folder / "resumed")


if __name__ == "__main__":
    main(*sys.argv[1:])
