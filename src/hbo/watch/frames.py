"""A run in the terminal until it ends: frames that fit its width and height, or lines where there is no screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hbo.text import counted, one_line
from hbo.watch.lines import Lines, ending, pace, progress, silence, time_left
from hbo.watch.view import DatasetView, View, Watcher, is_run

_SPARKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_STATES = {"running": "green", "waiting": "yellow", "finished": "bold green", "failed": "bold red"}
_WIDEST_NAME, _WIDEST_BAR, _NARROWEST_BAR = 28, 40, 8
_Cell = Callable[[DatasetView], Text]


def wait_for_run(folder: Path, interval: float) -> None:
    """Returns when a run has begun to write into the folder."""
    while not is_run(folder):
        time.sleep(interval)


def show(watcher: Watcher, console: Console, *, interval: float, once: bool = False) -> None:
    """Shows the run until it ends, or `once` as it stands.

    Raises:
        DataError: A file of the run is damaged.
    """
    looks = iter([watcher.look()]) if once else _looks(watcher, interval)
    if not console.is_terminal or console.is_dumb_terminal or console.options.ascii_only:
        lines = Lines()
        for line in (line for view in looks for line in lines.new(view)):
            console.print(Text(line), soft_wrap=True)
            console.file.flush()
        return
    if once:
        view = next(looks)
    else:
        # The terminal's second screen: it can be redrawn when the window changes its size, and leaves no trace.
        with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            for view in looks:
                live.update(frame(view, console.width, console.height), refresh=True)
    console.print(frame(view, console.width))


def _looks(watcher: Watcher, interval: float) -> Iterator[View]:
    while True:
        view = watcher.look()
        yield view
        if view.has_ended:
            return
        time.sleep(interval)


def frame(view: View, width: int, height: int | None = None) -> RenderableType:
    """The run's frame.

    Args:
        view: What is known of the run.
        width: Columns of the terminal.
        height: Its lines, beyond which datasets are left out; None shows all of them.
    """
    top = _header(view, width)
    notes = [note for note in (silence(view), ending(view)) if note]
    parts: list[RenderableType] = [_line(text, width) for text in top]
    if view.rows:
        room = None if height is None else max(height - len(top) - len(notes) - 4, 1)
        shown = _most_moved(view.rows, room)
        parts += [Text(), _table(shown, view.rows, width)]
        if left := len(view.rows) - len(shown):
            rest = sum(row.p for row in view.rows if row not in shown)
            parts.append(_line(Text(f"… and {left} more that moved less, together {rest:.1%}", style="dim"), width))
    # The last word is told in full, however long.
    parts += [Text(note, style=_STATES.get(view.state, "yellow")) for note in notes]
    return Group(*parts)


def _header(view: View, width: int) -> list[Text]:
    name = Text(one_line(view.name), style="bold")
    title = Text.assemble(name, "  ", (one_line(view.about), "dim"))
    state = Text.assemble(("● ", _STATES.get(view.state, "yellow")), progress(view))
    told = view.status
    done = told.done / told.total if told and told.total and not view.has_ended else None
    facts = "   ".join(part for part in (pace(view), time_left(view)) if part)
    if done is not None:
        room = min(max(width - state.cell_len - len(facts) - 12, 0), 40)
        if room >= _NARROWEST_BAR:
            state.append_text(Text.assemble("  ", _progress_bar(min(done, 1.0), room)))
        state.append(f" {min(done, 1.0):.0%}")
    state.append(f"   {facts}" if facts else "")
    lines = [title, state]
    if view.losses:
        (first_step, first), (_, last) = view.losses
        text = f"loss {last:.3f}"
        if len({first, last}) > 1:
            text += f" ({last - first:+.3f} since step {first_step})"
        lines.append(Text(f"{text}   {counted(view.updates, 'update')} of the probabilities"))
    elif view.rows:
        lines.append(Text(f"no loss logged yet   {counted(view.updates, 'update')} of the probabilities"))
    return lines


def _table(shown: Sequence[DatasetView], all_rows: Sequence[DatasetView], width: int) -> Table:
    scale = max(max(row.p, row.p_start) for row in all_rows)
    gap = 2 if width >= 100 else 1
    names = [Text(one_line(row.name) or "(no name)") for row in shown]
    name_width = min(max(*(name.cell_len for name in names), 7), max(min(width // 5, _WIDEST_NAME), 7))
    for columns in _layouts(all_rows):
        cells = {head: [cell(row) for row in shown] for head, cell in columns.items()}
        taken = sum(max(cell_len(head), *(cell.cell_len for cell in column)) + gap for head, column in cells.items())
        room = width - name_width - gap - taken - 1
        if room >= _NARROWEST_BAR:
            break
    bar_width = min(max(room, 4), _WIDEST_BAR)
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("dataset", no_wrap=True, overflow="ellipsis", max_width=name_width)
    table.add_column("", no_wrap=True, width=bar_width)
    for head in cells:
        table.add_column(head, no_wrap=True, justify="left" if head.startswith("group") else "right")
    for i, row in enumerate(shown):
        table.add_row(names[i], _bar(row, scale, bar_width), *(column[i] for column in cells.values()))
    return table


def _layouts(rows: Sequence[DatasetView]) -> list[dict[str, _Cell]]:
    """Columns beside name and bar, richest first; a change is in points of percent."""
    share: dict[str, _Cell] = {"share": lambda row: Text(f"{row.p:.1%}"), "change": _change}
    full: dict[str, _Cell] = {"reward": _reward_with_error} if any(row.reward is not None for row in rows) else {}
    short: dict[str, _Cell] = {"reward": _reward} if full else {}
    loss: dict[str, _Cell] = {"loss": _loss} if any(row.loss is not None for row in rows) else {}
    has_groups = any(len(row.q_L) > 1 for row in rows)
    groups: dict[str, _Cell] = {"groups in %, easiest first": _groups} if has_groups else {}
    compact: dict[str, _Cell] = {"groups": _groups_compact} if has_groups else {}
    rewards: dict[str, _Cell] = {"group rewards": _group_rewards} if any(row.reward_L for row in rows) else {}
    return [
        share | full | loss | groups | rewards,
        share | full | loss | groups,
        share | full | loss | compact,
        share | short | loss | compact,
        share | short | compact,
        share | compact,
        share,
        {"share": share["share"]},
    ]


def _bar(row: DatasetView, scale: float, width: int) -> Text:
    """What the dataset has, its gain since the start in green, its loss as shade."""
    now, start = (value / scale * width for value in (row.p, row.p_start))
    kept = min(int(start), int(now))
    text = Text("█" * kept, style="cyan")
    tail = "█" * (int(now) - kept) + _EIGHTHS[int(now % 1 * 8)].strip()
    text.append(tail, style="green" if now > start else "cyan")
    text.append("░" * (round(start) - text.cell_len), style="red")
    text.truncate(width)
    return text


def _progress_bar(done: float, width: int) -> Text:
    filled = int(done * width)
    return Text.assemble(("━" * filled, "green"), ("━" * (width - filled), "dim"))


def _change(row: DatasetView) -> Text:
    change = row.p - row.p_start
    shown = f"{100 * change:+.1f}"
    if float(shown) == 0:
        return Text("0.0", style="dim")
    return Text(shown, style="green" if change > 0 else "red")


def _reward(row: DatasetView) -> Text:
    return Text("-" if row.reward is None else f"{row.reward:.3g}")


def _reward_with_error(row: DatasetView) -> Text:
    shown = _reward(row)
    return shown if row.reward_se is None else Text.assemble(shown, (f" ± {row.reward_se:.2g}", "dim"))


def _loss(row: DatasetView) -> Text:
    return Text("-" if row.loss is None else f"{row.loss:.3f}")


def _groups(row: DatasetView) -> Text:
    return _numbers(row.q_L, row.q_start_L, ".1f", 100.0)


def _groups_compact(row: DatasetView) -> Text:
    """A spark per group, of which a uniform share has middle height, and the group that has gained most."""
    levels = len(row.q_L)
    sparks = "".join(_SPARKS[min(int(q * levels * 4), 7)] for q in row.q_L[:12]) + "…" * (levels > 12)
    gains = [q - start for q, start in zip(row.q_L, row.q_start_L, strict=True)]
    best = max(range(levels), key=gains.__getitem__)
    return Text.assemble(sparks, (f" g{best + 1} {100 * gains[best]:+.1f}", "green") if gains[best] >= 5e-4 else "")


def _group_rewards(row: DatasetView) -> Text:
    return Text("-") if row.reward_L is None else _numbers(row.reward_L, None, ".3f")


def _numbers(values: Sequence[float], start: Sequence[float] | None, form: str, scale: float = 1.0) -> Text:
    text = Text()
    for j, value in enumerate(values[:12]):
        change = 0.0 if start is None else value - start[j]
        style = "green" if change > 5e-4 else "red" if change < -5e-4 else ""
        text.append(" " if j else "").append("-" if value != value else f"{scale * value:{form}}", style=style)
    return text.append(" …" if len(values) > 12 else "")


def _most_moved(rows: Sequence[DatasetView], room: int | None) -> Sequence[DatasetView]:
    if room is None or len(rows) <= room:
        return rows
    ranked = sorted(range(len(rows)), key=lambda k: (-abs(rows[k].p - rows[k].p_start), -rows[k].p))
    return [rows[k] for k in sorted(ranked[: max(room - 1, 1)])]


def _line(text: Text, width: int) -> Text:
    text.no_wrap = True
    text.truncate(max(width - 1, 1), overflow="ellipsis")
    return text
