"""What there is to say of a run, in plain words: the same in the terminal, in a pipe and on the page."""

from __future__ import annotations

from hbo.errors import visible
from hbo.folder.status import FAILED, FINISHED, INTERRUPTED
from hbo.watch.view import REMOVED, View

_QUIET = 15.0  # seconds of silence that are worth a word


def one_line(text: str) -> str:
    """`text` on one line, with nothing that a terminal would obey."""
    return visible(" ".join(text.split()))


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


def pace(view: View) -> str:
    """How fast training is, or nothing while that isn't known."""
    told = view.status
    if told is None or told.phase != "training" or not (seconds := told.seconds_per_step):
        return ""
    return f"{seconds:.1f} s/step" if seconds >= 1 else f"{1 / seconds:.1f} steps/s"


def time_left(view: View) -> str:
    """How long the phase will take, if the run goes on and that is known."""
    told = view.status
    if view.has_ended or told is None or told.seconds_left is None or told.done >= told.total:
        return ""
    return f"{duration(told.seconds_left)} left"


def progress(view: View) -> str:
    """What the run is doing, and how far it has come."""
    told = view.status
    if view.has_ended and view.step:
        return f"step {view.step}" + (f" of {view.steps}" if view.steps else "")
    if told is None:
        return f"step {view.step}" if view.rows else "waiting for the run to begin"
    if told.phase == "training":
        return f"step {told.done} of {told.total}"
    count = f" {min(told.done, told.total)} of {told.total}" if told.total else " …"
    return f"{one_line(told.phase)}{count}"


def silence(view: View) -> str:
    """For how long nothing has been heard of a run that goes on, when that is worth a word."""
    if view.has_ended or view.silence < _QUIET:
        return ""
    return f"nothing heard for {duration(view.silence)}"


def headline(view: View) -> str:
    """The run's progress, pace and time left in one line."""
    loss = f"loss {view.losses[1][1]:.3f}" if view.losses else ""
    parts = (progress(view), loss, pace(view), time_left(view), silence(view))
    return ", ".join(part for part in parts if part)


def ending(view: View) -> str:
    """How the run ended, in a sentence; nothing while it goes on."""
    at = f" at step {view.step}" if view.step else ""
    why = f": {one_line(view.message)}" if view.message else ""
    match view.state:
        case status if status == FINISHED:
            return f"finished{at}"
        case status if status == FAILED:
            return f"failed{at}{why}"
        case status if status == INTERRUPTED:
            return f"interrupted{at}{why}"
        case status if status == REMOVED:
            return "its folder is gone; there is nothing left to watch"
    return ""
