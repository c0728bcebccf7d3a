"""What is shown while a command works: bars in a terminal, lines elsewhere."""

import io

import pytest
from rich.console import Console

from hbo.cli.bars import Bars
from hbo.cli.screen import PlainLines
from hbo.cli.shares import shares_told
from hbo.progress import Lap

LAP = Lap(20, 100, 6.9241, {"general": 0.54, "math": 0.46}, seconds_left=80.0)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_lap_is_one_plain_line(clock):
    said = []
    PlainLines(said.append, clock).hear(LAP)
    assert said == ["step 20 of 100: loss 6.924; general 54.0%, math 46.0%, 1 min 20 s left"]


def test_long_phases_say_where_they_are_and_short_ones_nothing(clock):
    said = []
    lines = PlainLines(said.append, clock)
    with lines.track("reading", 4) as advance:
        advance(4)
    assert said == []
    with lines.track("scoring", 3000) as advance:
        for _ in range(3):
            clock.now += 65
            advance(1000)
    assert said == [
        "scoring: 1,000 of 3,000, 2 min 10 s left",
        "scoring: 2,000 of 3,000, 1 min 5 s left",
        "scoring: 3,000 in 3 min 15 s",
    ]


def test_training_that_logs_says_nothing_else(clock):
    said = []
    lines = PlainLines(said.append, clock)
    with lines.track("training", 100) as advance:
        for _ in range(5):
            clock.now += 30
            advance(20)
            lines.hear(LAP)
    assert len(said) == 5


def test_of_many_datasets_the_largest_are_named():
    told = shares_told({f"d{k}": (k + 1) / 55 for k in range(10)})
    assert told.startswith("d4 9.1%, d5 10.9%") and told.endswith("4 others 18.2%")
    assert shares_told({"x" * 99: 1.0}) == f"{'x' * 23}… 100.0%"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_bars_show_loss_shares_and_time_and_cut_no_number(width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with Bars(console) as bars, bars.track("measuring the model on held-out rows", 123456) as advance:
        advance(123456)
        bars.hear(LAP)
    last = console.file.getvalue().replace("\r", "\n").split("\n")
    shown = [line for line in last if line.strip()]
    assert any("123,456 of 123,456" in line and "0 s" in line for line in shown)
    assert "loss 6.924; general 54.0%, math 46.0%" in console.file.getvalue()
    assert "…" not in console.file.getvalue()
