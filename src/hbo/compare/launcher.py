"""What stands before a run's command, so that the run has several processes or is done elsewhere: `torchrun …`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from hbo.errors import ConfigError

_ACCELERATE = {"accelerate", "accelerate-launch", "accelerate.commands.launch", "accelerate.commands.accelerate_cli"}
_DEEPSPEED = {"deepspeed", "deepspeed.launcher.runner"}
# Programs that start Python themselves, and the option with which they take a module instead of a file.
_STARTS_PYTHON = {
    **dict.fromkeys(("torchrun", "torch.distributed.run", *_ACCELERATE), "-m"),
    **dict.fromkeys(_DEEPSPEED, "--module"),
}
# Options with which deepspeed chooses among all GPUs of a host, whatever CUDA_VISIBLE_DEVICES says.
_CHOOSES_GPUS = re.compile(r"(-[ieH](?!-).*|--(include|exclude|hostfile|num_(gpus|accelerators|nodes)))")
_SHELLS = {"bash", "dash", "ksh", "sh", "zsh"}
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
        if (at := _options_of(own, _DEEPSPEED)) is not None and own[-1] != "-m":  # which would be another program's
            # It adds --local_rank=N to the words of hbo otherwise, and reads a port from no variable.
            port = [] if self._names_a_port("master_port") else [f"--master_port={_free_port()}"]
            own[at:at] = ["--no_local_rank", *port]
        if beside_others and (at := _options_of(own, _ACCELERATE)) and not self._names_a_port("main_process_port"):
            own.insert(at, "--main_process_port=0")  # any free one
        if own[-1] in ("-m", "--module"):
            return [*own, "hbo", *words]
        for program, option in _STARTS_PYTHON.items():
            if _options_of(own, {program}) is not None:
                return [*own, option, "hbo", *words]
        return [*own, sys.executable, "-m", "hbo", *words]

    def environment(self) -> dict[str, str]:
        """What keeps two torchruns on one machine from meeting at the same port."""
        if self.finds_a_machine or _PORT in os.environ:
            return {}
        return {_PORT: str(_free_port())}

    def _names_a_port(self, option: str) -> bool:
        return self.finds_a_machine or any(option in word.replace("-", "_") for word in self.words)


def launcher_of(text: str | None, jobs: int = 1) -> Launcher | None:
    """The launcher that a user has written as a shell would read it; None for none.

    Args:
        text: What the user has written.
        jobs: Runs at once.

    Raises:
        ConfigError: A shell couldn't read it, it is empty, its command isn't there, it would not start the run, or it
            would give the same GPUs to several runs at once.
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
    _check_script(words)
    launcher = Launcher(words)
    if jobs > 1 and not launcher.finds_a_machine:
        _check_gpus(words, jobs)
    return launcher


def _check_gpus(words: Sequence[str], jobs: int) -> None:
    at = _options_of(words, _DEEPSPEED)
    for word in words[at:] if at is not None else ():
        option = word.partition("=")[0]
        if _CHOOSES_GPUS.fullmatch(option):
            raise ConfigError(
                f"--launcher deepspeed {option}: with it deepspeed chooses from all GPUs, so the {jobs} runs at once "
                "would share them; leave it out: each run then uses the GPUs that --jobs gives it"
            )


def _check_script(words: Sequence[str]) -> None:
    """Refuses a shell's script that doesn't run the words after it, of which the first is its $0."""
    at = _options_of(words, _SHELLS)
    if at is None:
        return
    options = list(takewhile(lambda word: word.startswith("-"), words[at:]))
    if not any(re.fullmatch(r"-\w*c\w*", option) for option in options):
        return
    script, *after = words[at + len(options) :] or ("",)
    if not re.search(r"\$\{?[@*]", script) or not (after or re.search(r"\$\{?0", script)):
        raise ConfigError(
            f"--launcher {words[at - 1]} -c: the script doesn't run hbo train, which is put after it; end it with "
            f'"$@" and a name for the script: {words[at - 1]} -c \'… "$@"\' run'
        )


def _options_of(words: Sequence[str], programs: Collection[str]) -> int | None:
    """Where the options of one of these programs begin; None where none of them is named."""
    for place, word in enumerate(words):
        if Path(word).name in programs:
            return place + 2 if words[place + 1 : place + 2] in (["launch"], ("launch",)) else place + 1
    return None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
