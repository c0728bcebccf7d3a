"""What a run says at its end."""

from hbo.folder.metrics import Metrics
from hbo.folder.run import read_run
from hbo.report.next_steps import compared_runs, comparison_of
from hbo.report.outcome import cost, outcome


def test_the_end_of_a_run_says_what_moved_what_it_cost_and_what_is_next(run_folder):
    parts = {heading: (text, command) for heading, text, command in outcome(read_run(run_folder))}
    assert "Over 6 updates" in parts["Shares"][0]
    assert (
        parts["Cost"][0]
        == "training took 7 min 11 s for 120 steps; 6 updates took 38 s of it, which adds 9.8% to the steps"
    )
    assert parts["Training"][0].startswith("Against no training: The held-out loss is lower in all 4 datasets")
    assert "9 runs, about 1 h 4 min of training" in parts["Balancing"][0]
    assert parts["Balancing"][1] == comparison_of(run_folder, "hbo")
    assert parts["Report"][0] == str(run_folder / "report.html")


def test_a_run_without_updates_cost_nothing_more():
    assert cost(Metrics(train_seconds=3.0, steps=1, balance_seconds=0.0), 0) == (
        "training took 3 s for 1 step; balancing took none of it"
    )
    assert cost(Metrics(), 0) == "not measured"


def test_the_comparison_has_the_runs_own_method_once(tmp_path):
    assert "--methods mos+,hbo,proportional,uniform " in comparison_of(tmp_path, "mos+")
    assert "'runs/my run/config.yaml'" in comparison_of(tmp_path.__class__("runs/my run"), "uniform")
    assert (compared_runs("hbo"), compared_runs("mos+")) == (9, 12)
