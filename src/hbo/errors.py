"""Every error that `hbo` raises for the user.

    HBOError                  anything below; the command line prints it as one sentence, exit code 2
    ├── ConfigError           a key, a value or an option that can't be used
    ├── DataError             a dataset, a file or a row that can't be used
    ├── ModelError            a model, tokenizer or adapter that can't be loaded
    ├── ResumeError           a run folder or checkpoint that can't be continued
    ├── RewardError           a reward that can't be measured
    └── Interrupted           a signal stopped the run after its checkpoint was saved; its own exit code

Each message says what is wrong, where, and how to fix it.
"""

from __future__ import annotations


class HBOError(Exception):
    """Base class of all errors that a user can cause and fix."""


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
    """A signal stopped the run after a checkpoint was saved; `code` is the exit code, 128 + the signal's number."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
