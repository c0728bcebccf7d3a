import pytest
from going_runs import Going
from rich.cells import cell_len
from rich.console import Console

from hbo.text import duration
from hbo.watch.frames import frame
from hbo.watch.lines import Lines, headline
from hbo.watch.view import View, Watcher

ODD = {"数学の問題集・中級" * 3: 100, "\x1b[2Jtwo\nlines": 200, "👩‍🚀 émoji": 50, "[red]x[/]": 70, "": 30}
MANY = {f"dataset-{k:02}": 100 + 37 * k % 90 for k in range(50)}


def drawn(view, width, height=None):
    console = Console(width=width, height=height or 100, force_terminal=True, color_system=None, legacy_windows=False)
    with console.capture() as shown:
        console.print(frame(view, width, height))
    return shown.get().splitlines()


@pytest.fixture(params=["four", "odd", "many", "one group"])
def view(request, tmp_path):
    sizes = {"odd": ODD, "many": MANY}.get(request.param)
    return Watcher(Going(tmp_path / "run", sizes, groups=1 if request.param == "one group" else 4).folder).look()


@pytest.mark.parametrize("width", [30, 60, 80, 120, 250])
def test_a_frame_fits_its_terminal(view, width):
    lines = drawn(view, width, 24)
    assert len(lines) <= 24
    assert max(map(cell_len, lines)) <= width
    assert not any("\x1b" in line for line in lines)
    assert any("step 60 of 120" in line for line in lines)
    row = max(view.rows, key=lambda row: abs(row.p - row.p_start))
    assert any(f"{row.p:.1%}" in line for line in lines)


def test_sixty_columns_hold_all_that_matters(going):
    text = "\n".join(drawn(Watcher(going.folder).look(), 60))
    row = going.lines[3]
    change = row["global"]["math"] - going.lines[0]["global"]["math"]
    for shown in (
        "50%",
        "2.0 steps/s",
        "30 s left",
        "loss 2.000 (-0.500 since step 10)",
        f"{100 * change:+.1f}",
        "2.750",
        "█",
    ):
        assert shown in text
    (line,) = [line for line in text.splitlines() if line.startswith("math")]
    assert f"{row['global_reward']['math']:.3g}" in line
    assert "▄" in line


def test_a_wide_terminal_shows_groups_with_their_rewards(going):
    text = "\n".join(drawn(Watcher(going.folder).look(), 140))
    row = going.lines[3]
    assert " ".join(f"{100 * q:.1f}" for q in row["local"]["finance"]) in text
    assert " ".join(f"{r:.3f}" for r in row["local_reward"]["finance"]) in text
    assert f"± {row['global_reward_se']['finance']:.2g}" in text


def test_of_many_datasets_those_that_moved_most_are_shown(tmp_path):
    view = Watcher(Going(tmp_path / "run", MANY).folder).look()
    lines = drawn(view, 80, 24)
    shown = [line.split()[0] for line in lines if line.startswith("dataset-")]
    ranked = sorted(view.rows, key=lambda row: -abs(row.p - row.p_start))
    assert shown == sorted(row.name for row in ranked[: len(shown)])
    assert len(shown) > 10
    rest = sum(row.p for row in view.rows if row.name not in shown)
    assert f"… and {50 - len(shown)} more that moved less, together {rest:.1%}" in lines[-1]
    assert len([line for line in drawn(view, 80) if line.startswith("dataset-")]) == 50


def test_bars_are_in_proportion_and_shade_what_was_lost(going):
    view = Watcher(going.folder).look()
    lines = {line.split()[0]: line for line in drawn(view, 120) if line}
    assert {row.name for row in view.rows if row.p < row.p_start - 0.02} == {"general", "medical"}
    assert {name for name, line in lines.items() if "░" in line} == {"general", "medical"}
    filled = {row.name: lines[row.name].count("█") / row.p for row in view.rows}
    assert max(filled.values()) / min(filled.values()) < 1.3


def test_before_training_it_tells_the_phase(going):
    going.say(phase="scoring with instruction", done=5, total=40, trains=False)
    assert any("scoring with instruction 5 of 40" in line for line in drawn(Watcher(going.folder).look(), 60, 24))


def test_the_end_is_told_in_full(going):
    going.say(end="failed", message="no space left\x1b[2J on device, " + "and so on " * 20)
    text = " ".join(drawn(Watcher(going.folder).look(), 60, 24))
    assert "failed at step 60: no space left\\x1b[2J on device" in text
    assert text.count("and so on") == 20


def test_lines_say_a_thing_once_and_hold_no_control_codes(tmp_path):
    going = Going(tmp_path / "run", ODD)
    watcher, lines = Watcher(going.folder), Lines()
    first = list(lines.new(watcher.look()))
    assert len(first) == 2 + len(ODD)
    assert first[1].startswith("step 60 of 120, loss 2.000, 2.0 steps/s, 30 s left")
    assert all(line.isprintable() for line in first)
    assert list(lines.new(watcher.look())) == []
    going.update(4)
    assert len(list(lines.new(watcher.look()))) == len(ODD)
    going.finish()
    assert list(lines.new(watcher.look()))[-1] == "finished at step 120"


def test_silence_is_told(going):
    told = going.say()
    going.say(updated=told.updated - 100, began=told.began - 100)
    assert "nothing heard for 1 min 4" in headline(Watcher(going.folder).look())


@pytest.mark.parametrize(("seconds", "said"), [(0, "0 s"), (60, "1 min 0 s"), (3600, "1 h"), (1e30, "11574 d 1 h")])
def test_durations_have_two_units(seconds, said):
    assert duration(seconds) == said


def test_a_run_of_which_nothing_is_known_is_waited_for():
    assert headline(View("x", "waiting")) == "waiting for the run to begin"
