"""Words for people: names that a terminal can show, hints, spans of time."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as ` (did you mean 'probes'?)`, or nothing when no known name is close.

    Example:
        >>> nearest("probe", ["probes", "actor"])
        " (did you mean 'probes'?)"
    """
    found = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f" (did you mean '{found[0]}'?)" if found else ""


def first_line(error: BaseException) -> str:
    """What another library's error says, without the lines after its first; its class when it says nothing.

    Example:
        >>> first_line(ValueError("no such file\\nsee the manual")), first_line(KeyError())
        ('no such file', 'KeyError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def visible(text: str) -> str:
    r"""`text` with every character written out that a terminal would obey, or can't show.

    Names come from files, and no escape sequence of theirs may reach the terminal.

    Example:
        >>> visible("a\x1b[2J"), visible("naïve 👍")
        ('a\\x1b[2J', 'naïve 👍')
    """
    return "".join(c if c.isprintable() or c in " \n" else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    r"""`text` made visible, on one line.

    Example:
        >>> one_line("a\n  b\x07")
        'a b\\x07'
    """
    return " ".join(visible(text).split())


def duration(seconds: float) -> str:
    """A time span in its two largest units.

    Example:
        >>> duration(7.4), duration(126), duration(90_000)
        ('7 s', '2 min 6 s', '1 d 1 h')
    """
    whole = int(min(max(seconds, 0.0), 1e9))
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((i for i, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count or unit == "s")


def counted(number: int, thing: str) -> str:
    """How many of a thing there are.

    Example:
        >>> counted(1, "update"), counted(3, "update")
        ('1 update', '3 updates')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"
