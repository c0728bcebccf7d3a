"""What the commands show: results on standard output, progress and complaints on standard error."""

from __future__ import annotations

import os
import shlex
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from hbo.text import one_line, visible

# torchrun and accelerate set RANK; only the first process speaks, except to complain.
is_first = os.environ.get("RANK", "0") == "0"
console = Console(stderr=True, highlight=False)
# A pipe has no width, unless COLUMNS gives it one: a sentence stays on one line there, and a table is not squeezed.
_is_wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
out = Console(highlight=False, quiet=not is_first, width=160 if _is_wide else None)
_HEADING = 11  # cells of what stands before a part of a result


def say(line: str) -> None:
    """Shows one line of what is going on."""
    if is_first:
        console.print(line, soft_wrap=True, markup=False)


def tell(line: object) -> None:
    """Prints a result on a line of its own, however long, as it is."""
    out.print(str(line), soft_wrap=True, markup=False)


def tell_part(heading: str, text: str = "", command: str = "", *, indent: int = _HEADING) -> None:
    """Prints a result behind its heading, wrapped between words; a command is on lines of its own, to be copied."""
    room = sys.maxsize if _is_wide else max(out.width - indent, 20)
    lines = _wrapped(visible(text), room)
    if command:
        words = [shlex.quote(word) for word in shlex.split(command)]
        # A blank inside of quotes is none to wrap at, and comes back afterwards.
        parts = _wrapped(" ".join(word.replace(" ", "\0") for word in words), room - 2)
        lines += [visible(part.replace("\0", " ")) for part in " \\\n  ".join(parts).split("\n")]
    first, *rest = lines or [""]
    tell("\n".join([f"{heading:<{indent}}{first}", *(f"{' ' * indent}{line}" for line in rest)]))


def _wrapped(text: str, room: int) -> list[str]:
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)


def complain(message: str, code: int) -> NoReturn:
    """Ends the process with an error in one line."""
    console.print(f"error: {one_line(message)}", soft_wrap=True, markup=False)
    sys.exit(code)


def show_warning(message: Warning | str, category: type[Warning], filename: str, *args: Any, **kwargs: Any) -> None:
    """A `warnings.showwarning` that shows hbo's own warnings, a line for each."""
    if is_first and _is_ours(category, filename):
        console.print(f"warning: {one_line(str(message))}", soft_wrap=True, markup=False)


@contextmanager
def warnings_kept() -> Iterator[list[str]]:
    """The warnings of hbo's own that come while the block runs; shown at once after all, if it fails."""
    kept: list[str] = []
    before = warnings.showwarning

    def keep(message: Warning | str, category: type[Warning], filename: str, *args: Any, **kwargs: Any) -> None:
        if _is_ours(category, filename):
            kept.append(str(message))

    warnings.showwarning = keep
    try:
        yield kept
    except BaseException:
        for text in kept if is_first else ():
            console.print(f"warning: {one_line(text)}", soft_wrap=True, markup=False)
        raise
    finally:
        warnings.showwarning = before


def _is_ours(category: type[Warning], filename: str) -> bool:
    # Other libraries warn their developers; ours warn the user.
    return category is UserWarning and Path(__file__).parents[1] in Path(filename).parents
