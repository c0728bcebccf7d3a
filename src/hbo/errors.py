"""Every error that `hbo` raises for the user.

    HBOError                  anything below; the command line prints it as one sentence, exit code 2
    ├── ConfigError           a key, a value or an option that can't be used
    ├── DataError             a dataset, a file or a row that can't be used
    ├── ModelError            a model, tokenizer or adapter that can't be loaded
    ├── ResumeError           a run folder or checkpoint that can't be continued
    ├── RewardError           a reward that can't be measured
    └── Interrupted           a signal stopped the run after its checkpoint was saved; its own exit code

Each message says what is wrong, where, and how to mend it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HBOError(Exception):
    """Root of all errors that a user can cause and mend."""


class ConfigError(HBOError):
    """A key, a value or an option that can't be used."""


class DataError(HBOError):
    """A dataset, a file or a row that can't be used."""


class ModelError(HBOError):
    """A model, tokenizer or adapter that can't be loaded."""


class ResumeError(HBOError):
    """A run folder or a checkpoint that can't be continued."""


class RewardError(HBOError):
    """A reward that can't be measured."""


class Interrupted(HBOError):  # noqa: N818 - nothing went wrong
    """A signal stopped the run after its checkpoint was saved.

    Attributes:
        code: Exit code of the command: 128 + the signal's number.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as ` (did you mean 'probes'?)`, or nothing when no known name is close.

    Raises:
        Nothing.

    Example:
        >>> nearest("probe", ["probes", "actor"])
        " (did you mean 'probes'?)"
    """
    found = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f" (did you mean '{found[0]}'?)" if found else ""


def first_line(error: BaseException) -> str:
    """What another library's error says, without the lines after its first; its class when it says nothing.

    Raises:
        Nothing.

    Example:
        >>> first_line(ValueError("no such file\\nsee the manual")), first_line(KeyError())
        ('no such file', 'KeyError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def visible(text: str) -> str:
    r"""`text` with every character written out that a terminal would obey, or can't show.

    Names come from files, and no escape sequence of theirs may reach the terminal.

    Raises:
        Nothing.

    Example:
        >>> visible("a\x1b[2J"), visible("naïve 👍")
        ('a\\x1b[2J', 'naïve 👍')
    """
    return "".join(c if c.isprintable() or c in " \n" else ascii(c)[1:-1] for c in text)
