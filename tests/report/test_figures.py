import json

import pytest
from example_runs import read_lines, write_lines, write_run

from hbo.folder.run import read_run
from hbo.report import figures
from hbo.report.page import render
from hbo.report.series import read_runs


def drawings(folder):
    return figures.drawings(read_runs([folder]))


def by_key(figure, target=False):
    return {trace["key"]: trace for trace in figure["traces"] if bool(trace.get("target")) == target}


def test_each_chart_has_the_ledgers_numbers(run_folder):
    found, lines = drawings(run_folder), read_lines(run_folder)
    math_p = by_key(found["global-p"])["d1"]
    assert math_p["x"] == [line["step"] for line in lines]
    assert math_p["y"] == pytest.approx([line["global"]["math"] for line in lines], rel=1e-4)
    hardest = by_key(found["local-p-2"])["g3/4"]
    assert hardest["y"] == pytest.approx([line["local"]["finance"][3] for line in lines], rel=1e-4)
    reward = by_key(found["global-reward"])["d0"]
    assert reward["y"][0] is None
    assert reward["y"][1:] == pytest.approx([line["global_reward"]["general"] for line in lines[1:]], rel=1e-4)
    assert reward["se"][1:] == pytest.approx([line["global_reward_se"]["general"] for line in lines[1:]], rel=1e-4)
    local = by_key(found["local-reward-3"])["g0/4"]
    assert local["se"][6] == pytest.approx(lines[6]["local_reward_se"]["medical"][0], rel=1e-4)


def test_targets_are_the_shares_of_the_rewards(run_folder):
    found, last = by_key(drawings(run_folder)["global-p"], target=True), read_lines(run_folder)[-1]
    total = sum(last["global_reward"].values())
    assert found["d3"]["y"][-1] == pytest.approx(last["global_reward"]["medical"] / total, rel=1e-4)


def test_loss_is_drawn_over_all_and_per_dataset(run_folder):
    assert set(by_key(drawings(run_folder)["loss"])) == {"overall", "d0", "d1", "d2", "d3"}


def test_a_dataset_looks_the_same_in_every_chart(run_folder):
    found = drawings(run_folder)
    looks = [
        {(trace["colour"], trace["dash"], trace["symbol"]) for name in names for trace in [by_key(found[name])["d2"]]}
        for names in [("global-p", "global-reward", "loss")]
    ]
    assert len(looks[0]) == 1


def test_a_static_run_has_no_rewards_and_an_unfinished_one_no_loss(tmp_path):
    folder = write_run(tmp_path / "static", static=True)
    (folder / "trainer_state.json").unlink()
    assert set(drawings(folder)) == {"global-p", *(f"local-p-{k}" for k in range(4))}


def test_small_charts_share_one_vertical_axis_that_holds_all_of_them(run_folder):
    found = drawings(run_folder)
    ranges = {tuple(found[f"local-p-{k}"]["range"]) for k in range(4)}
    assert len(ranges) == 1
    low, high = ranges.pop()
    values = [y for k in range(4) for trace in found[f"local-p-{k}"]["traces"] for y in trace["y"] if y is not None]
    assert low < min(values) <= max(values) < high


def test_every_chart_has_the_steps_of_the_whole_run(run_folder):
    found = drawings(run_folder)
    assert {figure["until"] for figure in found.values()} == {read_run(run_folder).steps}


@pytest.mark.parametrize(("least", "starts_at_0"), [(0.01, True), (0.2, False)])
def test_shares_that_come_near_0_are_drawn_from_0_and_the_page_says_so(run_folder, least, starts_at_0):
    ledger = read_lines(run_folder)
    name = next(iter(ledger[-1]["local"]))
    ledger[-1]["local"][name] = [least, (1 - least) / 3, (1 - least) / 3, (1 - least) / 3]
    write_lines(run_folder, ledger)
    assert (drawings(run_folder)["local-p-0"]["range"][0] == 0) is starts_at_0
    assert ("start at 0 because" in render(read_run(run_folder))) is not starts_at_0


def test_a_long_run_is_thinned_and_keeps_its_ends(tmp_path):
    folder = write_run(tmp_path / "long", updates=3)
    first = read_lines(folder)[0]
    write_lines(folder, [first | {"step": step, "start": step} for step in range(4000)])
    trace = by_key(drawings(folder)["global-p"])["d0"]
    assert len(trace["x"]) <= 500
    assert (trace["x"][0], trace["x"][-1]) == (0, 3999)


def test_values_that_are_not_finite_become_gaps(run_folder):
    state = json.loads((run_folder / "trainer_state.json").read_text())
    state["log_history"][3]["loss"] = float("nan")
    (run_folder / "trainer_state.json").write_text(json.dumps(state))
    found = drawings(run_folder)
    assert by_key(found["loss"])["overall"]["y"][3] is None
    json.dumps(found, allow_nan=False)
