"""A run in plain words, the same in the terminal and on the page; and as lines for a pipe or a file."""

from __future__ import annotations

from collections.abc import Iterator

from hbo.folder.status import FAILED, FINISHED, INTERRUPTED
from hbo.text import duration, one_line
from hbo.watch.view import REMOVED, DatasetView, View

_QUIET = 15.0  # seconds of silence that are worth a word


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


class Lines:
    """Turns looks at a run into lines; what was said before isn't said again."""

    def __init__(self) -> None:
        self._said: object = None
        self._updates = -1

    def new(self, view: View) -> Iterator[str]:
        """The lines that are due after this look."""
        if self._said is None:
            yield one_line(", ".join(part for part in (view.name, view.about) if part))
        told = view.status
        tenth = 10 * told.done // told.total if told and told.total else 0
        news = (told.phase if told else "", tenth, view.losses, view.step if told is None else 0)
        if news != self._said and not view.has_ended:
            yield headline(view)
        self._said = news
        if view.rows and view.updates != self._updates:
            self._updates = view.updates
            yield from (_dataset(row, view) for row in view.rows)
        if view.has_ended:
            yield ending(view)


def _dataset(row: DatasetView, view: View) -> str:
    parts = [f"update {view.updates}", one_line(row.name), f"share {row.p:.1%} ({100 * (row.p - row.p_start):+.1f})"]
    if row.reward is not None:
        spread = "" if row.reward_se is None else f" +- {row.reward_se:.2g}"
        parts.append(f"reward {row.reward:.4g}{spread}")
    if row.loss is not None:
        parts.append(f"loss {row.loss:.3f}")
    if len(row.q_L) > 1:
        parts.append("groups " + " ".join(f"{q:.1%}" for q in row.q_L))
    if row.reward_L is not None:
        parts.append("group rewards " + " ".join("-" if value != value else f"{value:.4g}" for value in row.reward_L))
    return "  ".join(parts)
