"""A run as plain lines, for a pipe or a file: one when it gets on, one per dataset at each update."""

from __future__ import annotations

from collections.abc import Iterator

from hbo.watch import words
from hbo.watch.view import Row, View


class Lines:
    """Turns looks at a run into lines; what was said before isn't said again."""

    def __init__(self) -> None:
        self._said: object = None
        self._updates = -1

    def new(self, view: View) -> Iterator[str]:
        """The lines that are due after this look."""
        if self._said is None:
            yield words.one_line(", ".join(part for part in (view.name, view.about) if part))
        told = view.status
        tenth = 10 * told.done // told.total if told and told.total else 0
        news = (told.phase if told else "", tenth, view.losses, view.step if told is None else 0)
        if news != self._said and not view.has_ended:
            yield words.headline(view)
        self._said = news
        if view.rows and view.updates != self._updates:
            self._updates = view.updates
            yield from (_dataset(row, view) for row in view.rows)
        if view.has_ended:
            yield words.ending(view)


def _dataset(row: Row, view: View) -> str:
    parts = [f"update {view.updates}", words.one_line(row.name), f"p {row.p:.4f} ({row.p - row.p_start:+.4f})"]
    if row.reward is not None:
        spread = "" if row.reward_se is None else f" +- {row.reward_se:.2g}"
        parts.append(f"reward {row.reward:.4g}{spread}")
    if row.loss is not None:
        parts.append(f"loss {row.loss:.3f}")
    if len(row.q_L) > 1:
        parts.append("groups " + " ".join(f"{q:.4f}" for q in row.q_L))
    if row.reward_L is not None:
        parts.append("group rewards " + " ".join("-" if value != value else f"{value:.4g}" for value in row.reward_L))
    return "  ".join(parts)
