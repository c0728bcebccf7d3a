"""What a run says at its end."""

from hbo.folder.metrics import Metrics
from hbo.folder.run import read_run
from hbo.report.next_steps import compared_runs, comparison_of
from hbo.report.outcome import against_no_training, cost, outcome


def metrics(before, after, **more):
    def scores(values):
        return {name: {"nll": nll, "perplexity": 2.0, "n": 9} for name, nll in values.items()}

    return Metrics.checked({"eval": scores(after), "eval_before": scores(before), **more}, "metrics.json")


def test_the_end_of_a_run_says_what_moved_what_it_cost_and_what_is_next(run_folder):
    parts = {heading: (text, command) for heading, text, command in outcome(read_run(run_folder))}
    assert "Over 6 updates" in parts["Shares"][0]
    assert (
        parts["Cost"][0]
        == "training took 7 min 11 s for 120 steps; 6 updates took 38 s of it, which adds 9.8% to the steps"
    )
    assert "the held-out loss fell in all 4 datasets" in parts["Training"][0]
    assert "9 runs answer it, about 1 h 4 min of training:" in parts["Balancing"][0]
    assert parts["Balancing"][1] == comparison_of(run_folder, "hbo")
    assert parts["Report"][0] == str(run_folder / "report.html")


def test_a_loss_that_rose_is_not_called_lower():
    told = against_no_training(metrics({"a": 1.0, "b": 2.0}, {"a": 1.5, "b": 1.9}))
    assert told == (
        "against no training, the held-out loss fell in 1 of 2 datasets, but rose by 13.3% on average (1.500 to 1.700)"
    )
    assert "fell in 0 of 1 dataset, and did not change: 0.0%" in against_no_training(metrics({"a": 1.0}, {"a": 1.0}))
    assert "was not measured" in against_no_training(metrics({}, {"a": 1.0}))


def test_answers_are_counted_and_not_turned_into_percent():
    right = {"accuracy": {"a": {"accuracy": 3 / 22, "n": 22}}, "accuracy_before": {"a": {"accuracy": 6 / 22, "n": 22}}}
    told = against_no_training(metrics({"a": 2.0}, {"a": 1.0}, **right))
    assert told.endswith("of 22 answers 3 are right, 6 without training")


def test_a_run_without_updates_cost_nothing_more():
    assert cost(Metrics(train_seconds=3.0, steps=1, balance_seconds=0.0), 0) == (
        "training took 3 s for 1 step; balancing took nothing of it"
    )
    assert cost(Metrics(), 0) == "not measured"


def test_the_comparison_has_the_runs_own_method_once(tmp_path):
    assert "--methods mos+,hbo,proportional,uniform " in comparison_of(tmp_path, "mos+")
    assert "'runs/my run/config.yaml'" in comparison_of(tmp_path.__class__("runs/my run"), "uniform")
    assert (compared_runs("hbo"), compared_runs("mos+")) == (9, 12)
