"""A grid in a terminal: a line for each run, and one for all."""

import io

from rich.console import Console

from hbo.cli.grid_screen import grid_screen, grid_shown
from hbo.compare.grid_view import GridView, RunningCell

VIEW = GridView(
    (
        RunningCell("hbo, seed 0", "training", 1200, 4000, 2.3456, 95.0),
        RunningCell("uniform\x1b[2J, seed 1", "scoring", 3, 40, None, None),
        RunningCell("mos+, seed 1", "starts", 0, 0, None, None),
    ),
    finished=3, failed=1, total=9, seconds_left=400.0,
)  # fmt: skip


def lines(view, width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    console.print(grid_shown(view))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_each_run_has_a_line_and_all_have_one():
    first, second, third, all_of_them = lines(VIEW, 110)
    assert first.startswith("hbo, seed 0") and first.endswith("step 1,200 of 4,000 loss 2.346 1 min 35 s left")
    assert second.startswith("uniform\\x1b[2J, seed 1") and "scoring 3 of 40" in second
    assert third.startswith("mos+, seed 1") and "starts" in third
    assert all_of_them == "3 of 9 runs finished, 1 failed, 2 waiting, about 6 min 40 s left"


def test_in_a_narrow_terminal_numbers_stay_whole():
    first = lines(VIEW, 60)[0]
    assert first.endswith("step 1,200 of 4,000 loss 2.346 1 min 35 s left")


def test_lines_printed_meanwhile_stand_above():
    console = Console(file=io.StringIO(), force_terminal=True, width=110, highlight=False)
    with grid_screen(console) as show:
        show(VIEW)
        console.print("[1/9] hbo, seed 0: 2.345", markup=False)
        show(VIEW)
    assert "[1/9] hbo, seed 0: 2.345" in console.file.getvalue()


def test_without_a_terminal_nothing_is_shown():
    with grid_screen(Console(file=io.StringIO())) as show:
        assert show is None
