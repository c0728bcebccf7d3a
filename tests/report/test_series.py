import numpy as np
import pytest
from example_runs import read_lines, write_lines
from hypothesis import given
from hypothesis import strategies as st

from hbo.folder.ledger import Line
from hbo.folder.run import read_run
from hbo.report.series import asked_rows, averaged, epochs, evenly, reward_shares, series_of, target


def shares(folder):
    run = read_run(folder)
    return reward_shares(run, series_of(run.lines))


def line(step, start, p, q, drawn, reward=None):
    return Line(step, start, tuple(p), tuple(map(tuple, q)), reward, None, None, None, drawn, 0.0, 0)


def test_series_hold_each_line_and_pad_the_narrower_dataset():
    series = series_of(
        [
            line(0, 0, [0.5, 0.5], [[0.5, 0.5], [1.0]], ((0, 0), (0,))),
            line(10, 44, [0.2, 0.8], [[0.4, 0.6], [1.0]], ((3, 4), (5,)), (2.0, 8.0)),
            line(20, 84, [0.2, 0.8], [[0.4, 0.6], [1.0]], ((1, 1), (10,))),
        ]
    )
    assert series.step_S.tolist() == [0, 10, 20]
    assert series.p_SK[:, 1].tolist() == [0.5, 0.8, 0.8]
    np.testing.assert_equal(series.q_SKL[1], [[0.4, 0.6], [1.0, np.nan]])
    assert series.drawn_KL.tolist() == [[4, 5], [15, 0]]
    assert np.isnan(series.reward_SK[0]).all()
    assert series.reward_SK[1].tolist() == [2.0, 8.0]
    assert np.isnan(series.reward_SKL).all()
    assert series.moved
    assert series.groups == 2


def test_frozen_probabilities_have_not_moved(run_folder):
    run = read_run(run_folder)
    assert series_of(run.lines).moved
    assert not series_of(run.lines[:1]).moved


def test_asked_counts_an_update_from_its_start_and_not_its_step():
    lines = [
        line(0, 0, [1.0, 0.0], [[1.0], [1.0]], ((0,), (0,))),
        line(10, 60, [0.0, 1.0], [[1.0], [1.0]], ((40,), (0,))),
        line(20, 100, [0.5, 0.5], [[1.0], [1.0]], ((20,), (20,))),
    ]
    # 80 rows: the first policy up to row 60, the second from there; the third isn't in force yet.
    assert asked_rows(lines, 80).tolist() == [[60.0], [20.0]]


def test_asked_adds_up_to_the_rows_drawn(run_folder):
    series = series_of(read_run(run_folder).lines)
    assert series.asked_KL.sum() == pytest.approx(series.drawn_KL.sum()) == 6 * 20 * 16


def test_epochs_are_unknown_without_a_size():
    seen = epochs(np.array([[6.0, 3.0], [1.0, 1.0]]), {"a": [2, 0]}, ["a", "b"])
    np.testing.assert_equal(seen, [[3.0, np.nan], [np.nan, np.nan]])


def test_target_is_the_share_of_the_reward():
    np.testing.assert_allclose(target(np.array([[1.0, 3.0], [2.0, 2.0]])), [[0.25, 0.75], [0.5, 0.5]])


@pytest.mark.parametrize("reward", [[np.nan, np.nan], [0.0, 0.0], [-1.0, 3.0]])
def test_rewards_that_give_no_shares_have_no_target(reward):
    assert np.isnan(target(np.array(reward))).all()


@given(st.integers(1, 3000), st.integers(2, 600))
def test_evenly_keeps_both_ends_and_the_limit(count, most):
    chosen = evenly(count, most)
    assert chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert len(chosen) <= most


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=300), st.integers(1, 50))
def test_averaging_stays_in_range_and_ends_at_the_last_step(values, most):
    steps, means = averaged(list(range(len(values))), values, most)
    assert len(steps) == len(means) <= max(most, 1)
    assert steps[-1] == len(values) - 1
    assert min(values) - 1e-9 <= min(means) <= max(means) <= max(values) + 1e-9


def test_of_packed_rows_those_with_more_examples_are_asked_for_less():
    line = Line(0, 0, (0.5, 0.5), ((1.0,), (1.0,)), None, None, None, None, ((0,), (0,)), 0.0, 0, ((4.0,), (1.0,)))
    assert asked_rows([line], 10.0).ravel() == pytest.approx([2.0, 8.0])


def test_targets_of_groups_are_their_shares_of_their_datasets_rewards(run_folder):
    (_, q_SKL), last = shares(run_folder), read_lines(run_folder)[-1]["local_reward"]["finance"]
    assert q_SKL[-1, 2] == pytest.approx(np.array(last) / sum(last))
    assert np.isnan(q_SKL[0]).all()


def test_under_one_flat_actor_a_datasets_target_is_what_its_groups_have(run_folder):
    lines = read_lines(run_folder)
    write_lines(run_folder, [line | {"global_reward": None} for line in lines])
    metrics = (run_folder / "metrics.json").read_text()
    (run_folder / "metrics.json").write_text(metrics.replace('"hbo"', '"mos+"'))
    rewards = lines[-1]["local_reward"]
    total = sum(map(sum, rewards.values()))
    assert shares(run_folder)[0][-1] == pytest.approx([sum(row) / total for row in rewards.values()])


@pytest.mark.parametrize("actor", ["exp3", "odm", "loss_softmax"])
def test_actors_with_another_fixed_point_have_no_target(run_folder, actor):
    with (run_folder / "config.yaml").open("a") as file:
        file.write(f"  actor: {{kind: {actor}}}\n")
    assert all(np.isnan(found).all() for found in shares(run_folder))
