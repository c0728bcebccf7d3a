import numpy as np
import pytest
from example_runs import read_lines, write_lines, write_run

from hbo.folder.run import read_run
from hbo.report.reasons import reasons, task
from hbo.report.tables import tables
from hbo.report.targets import targets


def read(folder):
    run = read_run(folder)
    return run, tables(run.lines)


def with_rewards(folder, rewards, last):
    lines = read_lines(folder)
    for line in lines[1:]:
        line["global_reward"] = rewards
    lines[-1]["global"] = last
    write_lines(folder, lines)


@pytest.fixture
def two(tmp_path):
    folder = write_run(tmp_path / "two", {"math": 100, "chat": 300}, updates=2)
    with_rewards(folder, {"math": 3.0, "chat": 2.0}, {"math": 0.4, "chat": 0.6})
    return folder


def test_what_rose_is_explained_by_its_share_of_the_rewards(two):
    said = " ".join(reasons(*read(two)))
    assert "math had 60 % of all rewards on average, having begun with 25 % of the rows, so it rose" in said
    assert "chat had 40 % of all rewards on average, having begun with 75 % of the rows, so it fell" in said


def test_no_cause_is_claimed_where_the_mean_says_otherwise(two):
    with_rewards(two, {"math": 1.0, "chat": 9.0}, {"math": 0.4, "chat": 0.6})
    assert "so it" not in " ".join(reasons(*read(two)))


def test_the_reward_is_put_in_words(two):
    with (two / "config.yaml").open("a") as file:
        file.write("  global_reward: gradient_norm\n  local_reward: perplexity_ratio\n")
    said = " ".join(reasons(*read(two)))
    assert "Here the reward is the gradient norm" in said
    assert "Of groups it is the perplexity ratio" in said


def test_a_run_without_rewards_gives_no_reasons(tmp_path):
    folder = write_run(tmp_path / "static", static=True, updates=0)
    with (folder / "config.yaml").open("a") as file:
        file.write("  global_reward: null\n  local_reward: null\n")
    assert reasons(*read(folder)) == []
    assert "fixed under method uniform" in task(*read(folder))


def test_the_task_tells_of_datasets_groups_and_interval(run_folder):
    said = task(*read(run_folder))
    assert "fine-tuned on 4 datasets at once, each cut into 4 groups from easy to hard. After every 20 steps" in said


def test_targets_of_groups_are_their_shares_of_their_datasets_rewards(run_folder):
    aims, last = targets(*read(run_folder)), read_lines(run_folder)[-1]["local_reward"]["finance"]
    assert aims.q_SKL[-1, 2] == pytest.approx(np.array(last) / sum(last))
    assert np.isnan(aims.q_SKL[0]).all()


def test_under_one_flat_actor_a_datasets_target_is_what_its_groups_have(run_folder):
    lines = read_lines(run_folder)
    write_lines(run_folder, [line | {"global_reward": None} for line in lines])
    metrics = (run_folder / "metrics.json").read_text()
    (run_folder / "metrics.json").write_text(metrics.replace('"hbo"', '"mos+"'))
    rewards = lines[-1]["local_reward"]
    total = sum(map(sum, rewards.values()))
    assert targets(*read(run_folder)).p_SK[-1] == pytest.approx([sum(row) / total for row in rewards.values()])


@pytest.mark.parametrize("actor", ["exp3", "odm", "loss_softmax"])
def test_actors_with_another_fixed_point_have_no_target(run_folder, actor):
    with (run_folder / "config.yaml").open("a") as file:
        file.write(f"  actor: {{kind: {actor}}}\n")
    aims = targets(*read(run_folder))
    assert np.isnan(aims.p_SK).all()
    assert np.isnan(aims.q_SKL).all()
