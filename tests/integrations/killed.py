"""A run that ends by itself, and one that is killed and resumed."""

import os
import signal
import subprocess
import time
from pathlib import Path

LIMIT = 600  # seconds for a command


def run(command, log, **options):
    """Runs a command to its end; its output goes to the file `log`."""
    with Path(log).open("ab") as file:
        done = subprocess.run(command, stdout=file, stderr=file, timeout=LIMIT, check=False, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))} ended with {done.returncode}; see {log}"


def run_and_kill(command, log, output, *, checkpoints=2, last_step, **options):
    """Kills the command once `output` holds as many whole checkpoints.

    Raises:
        AssertionError: It ended by itself, or had reached `last_step` already.
    """
    end = time.monotonic() + LIMIT
    with Path(log).open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, **options)
        while len(whole := whole_checkpoints(output)) < checkpoints:
            assert process.poll() is None, f"{' '.join(map(str, command))} ended before it was killed; see {log}"
            assert time.monotonic() < end, f"no {checkpoints} checkpoints in {output} within {LIMIT} s; see {log}"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert max(whole) < last_step, f"nothing was left to resume: step {max(whole)} of {last_step} was saved"
    print(f"killed after the checkpoint of step {max(whole)}")


def whole_checkpoints(output):
    """Step → folder of the checkpoints whose last file is there."""
    found = {}
    for state in Path(output).glob("checkpoint-*/trainer_state.json"):
        if state.read_text(encoding="utf-8").rstrip().endswith("}"):
            found[int(state.parent.name.rpartition("-")[2])] = state.parent
    return found
