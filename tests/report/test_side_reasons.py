"""Several runs on one page: each says why its shares moved, and words can't be mistaken for datasets."""

from example_runs import write_run

from hbo.folder.run import read_run
from hbo.report.reasons import reasons
from hbo.report.runs import read_runs
from hbo.report.side_tables import header
from hbo.report.tables import tables


def test_each_run_that_measured_rewards_says_why_and_no_other(tmp_path):
    folders = [write_run(tmp_path / "first"), write_run(tmp_path / "second", seed=1)]
    html = header(read_runs([*folders, write_run(tmp_path / "static", static=True)]))
    assert html.count("<summary>Why</summary>") == 2
    assert html.count("moves towards its share of the rewards") == 2


def test_the_name_of_a_dataset_is_never_read_as_a_part_of_the_sentence(tmp_path):
    run = read_run(write_run(tmp_path / "run", {"general": 100, "math": 100}))
    inside = reasons(run, tables(run.lines))[1]
    assert ": in " not in inside
    assert any(f"g{j} of {name} had " in inside for j in range(1, 5) for name in run.datasets)
    assert "of that dataset's rewards on average" in inside
