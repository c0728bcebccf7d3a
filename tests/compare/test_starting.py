"""Runs that measure the same wait for the first of them; all others start at once."""

import pytest
import yaml

from hbo.compare.grid import cells
from hbo.compare.starting import Starts


@pytest.fixture
def grid(tmp_path):
    def make(*vary, methods=("hbo", "uniform")):
        data = {
            "model": "nothing",
            "mixture": {"datasets": {"a": "a.jsonl"}},
            "train": {"max_steps": 4, "learning_rate": 0.1},
        }
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(data))
        return cells(tmp_path / "run.yaml", methods, [0, 1], vary, tmp_path / "grid")

    return make


def start(cell):
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / "config.yaml").write_text("of a run that has started")


def test_the_second_run_starts_when_the_first_has_measured(grid, tmp_path):
    first, second, *others = grid("train.learning_rate=0.1,0.2")
    starts = Starts(tmp_path / "start.lock")
    look = starts.begin(first, resume=False)
    look(False)
    assert starts.begin(second, resume=False) is None
    start(first)
    look(False)
    assert all(starts.begin(cell, resume=False) for cell in (second, *others))


def test_another_runner_waits_too_and_then_measures_for_itself(grid, tmp_path):
    first, second, *_ = grid()
    here, there = Starts(tmp_path / "start.lock"), Starts(tmp_path / "start.lock")
    look = here.begin(first, resume=False)
    assert there.begin(second, resume=False) is None
    look(True)  # it failed, and has let go
    assert there.begin(second, resume=False)
    assert here.begin(first, resume=False) is None


def test_what_an_earlier_attempt_left_is_no_start(grid, tmp_path):
    first, second, *_ = grid()
    start(first)
    starts = Starts(tmp_path / "start.lock")
    look = starts.begin(first, resume=False)
    look(False)
    assert starts.begin(second, resume=False) is None


def test_runs_with_other_scores_are_measured_one_after_the_other(grid, tmp_path):
    first, second, *_ = grid("difficulty.metric=ifd,loss", methods=["hbo"])
    starts = Starts(tmp_path / "start.lock")
    look = starts.begin(first, resume=False)
    start(first)
    look(False)
    assert starts.begin(second, resume=False)  # the lock is free again, and this run holds it now
    assert Starts(tmp_path / "start.lock").begin(first, resume=False) is None


def test_a_run_that_goes_on_waits_for_nobody(grid, tmp_path):
    first, second, *_ = grid()
    starts = Starts(tmp_path / "start.lock")
    starts.begin(first, resume=False)
    assert starts.begin(second, resume=True)
