"""One command of hbo in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class Child:
    """A command that runs; what it says goes to its log.

    Args:
        words: The command.
        log: Written anew.
        held: The descriptor of a lock, which the command holds too: when this process is killed, nobody starts the
            same beside it.
        place: What is added to the environment.
    """

    def __init__(self, words: Sequence[str], log: Path, held: int, place: Mapping[str, str]) -> None:
        with log.open("wb") as file:
            # Ctrl-C in a terminal reaches a whole session. Of two signals a run takes the second as an order to stop at
            # once, so that none may reach it but the one that `stop` sends.
            self._process = subprocess.Popen(
                words,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                pass_fds=(held,),
                env={**os.environ, **place},
                start_new_session=True,
            )

    def code(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Tells the command to save and end."""
        self._process.send_signal(signal.SIGTERM)

    def stop_all(self) -> None:
        """Tells the command to end, and what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
