"""Tables of the terminal at any width: no number is cut and no word broken."""

import io

import pytest
from rich.console import Console

from hbo.report.columns import Columns

NUMBERS = ["12,345", "360", "1,234.56", "-92.8%", "0% → 100%", "124"]


def table(names):
    found = Columns(
        ["dataset", "train rows", "held out", "before training", "change", "accuracy", "steps per pass"], "Rows"
    )
    for name in names:
        found.add(name, *NUMBERS)
    found.end_part()
    return found


def shown(printed, width):
    console = Console(width=width, force_terminal=False, file=io.StringIO())
    console.print(printed)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_number_is_cut_and_nothing_is_wider_than_the_screen(width):
    names = ["general", "a dataset whose name is longer than most", "[red]red[/red]"]
    text = shown(table(names), width)
    assert max(map(len, text.splitlines())) <= width
    for number in NUMBERS:
        for part in number.split():
            assert text.split().count(part) + text.split().count(f"{part},") >= 3 * NUMBERS.count(number), (part, text)
    assert "general" in text and "[red]red" in text
    for word in ("train", "rows", "training"):
        assert word in text


def test_a_name_gives_way_before_a_number_does():
    text = shown(table(["n" * 40]), 80)
    assert "n…  12,345" in text
    assert "n" * 40 in shown(table(["n" * 40]), 120)


def test_headings_take_as_few_lines_as_there_is_room_for():
    assert shown(table(["a"]), 120).splitlines()[1].startswith("dataset  train rows")
    lines = shown(table(["a"]), 60).splitlines()
    assert "accuracy" in lines[2] and "before" in lines[1]
    assert table(["a", "b"]).row_count == 2
