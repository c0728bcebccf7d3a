"""What stands before a run's command, so that the run has several processes or is done elsewhere: `torchrun …`."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hbo.errors import ConfigError

# Programs that start Python themselves, and the option with which they take a module instead of a file.
_STARTS_PYTHON = {"torchrun": "-m", "torch.distributed.run": "-m", "accelerate": "-m", "deepspeed": "--module"}
# Programs that find a machine for what they start, so that the GPUs of this one aren't theirs to share.
_FINDS_A_MACHINE = {"srun", "ray", "ssh", "kubectl", "mpirun", "mpiexec", "flux", "jsrun", "sky"}
_PORT = "PET_MASTER_PORT"  # torchrun reads its options from such variables, too


@dataclass(frozen=True)
class Launcher:
    """The words before a command of hbo.

    Example:
        >>> Launcher(("srun", "-N1", "python", "-m")).command(["train", "a.yaml"])
        ['srun', '-N1', 'python', '-m', 'hbo', 'train', 'a.yaml']
    """

    words: tuple[str, ...]

    @property
    def finds_a_machine(self) -> bool:
        """Whether runs may be done on other machines than this one."""
        return any(Path(word).name in _FINDS_A_MACHINE for word in self.words)

    def command(self, words: Sequence[str], *, beside_others: bool = False) -> list[str]:
        """The whole command.

        Args:
            words: Of hbo.
            beside_others: Whether this launcher runs several times at once on this machine.
        """
        own = list(self.words)
        if beside_others and "accelerate" in map(_program, own) and "launch" in own and not self._names_a_port():
            own.insert(own.index("launch") + 1, "--main_process_port=0")  # any free one
        if own[-1] in ("-m", "--module"):
            return [*own, "hbo", *words]
        for program, option in _STARTS_PYTHON.items():
            if program in map(_program, own):
                return [*own, option, "hbo", *words]
        return [*own, sys.executable, "-m", "hbo", *words]

    def environment(self) -> dict[str, str]:
        """What keeps two torchruns on one machine from meeting at the same port."""
        if self.finds_a_machine or _PORT in os.environ:
            return {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return {_PORT: str(free.getsockname()[1])}

    def _names_a_port(self) -> bool:
        return self.finds_a_machine or any("main_process_port" in word.replace("-", "_") for word in self.words)


def launcher_of(text: str | None) -> Launcher | None:
    """The launcher that a user has written as a shell would read it; None for none.

    Raises:
        ConfigError: A shell couldn't read it, it is empty, or its command isn't there.
    """
    if text is None:
        return None
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigError(f"--launcher {text!r} can't be read ({error}); close its quotes") from None
    if not words:
        raise ConfigError("--launcher is empty; write the command that goes before hbo train, such as torchrun … -m")
    if shutil.which(words[0]) is None:
        raise ConfigError(f"--launcher {words[0]}: there is no such command here; give its path, or install it")
    return Launcher(words)


def _program(word: str) -> str:
    return Path(word).name
