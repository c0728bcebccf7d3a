import json

import pytest
from example_runs import read_lines, write_json, write_lines, write_run

from hbo.folder.run import read_run
from hbo.report.helped import helped
from hbo.report.series import series_of
from hbo.report.words import moved, reasons, task


def read(folder):
    run = read_run(folder)
    return run, series_of(run.lines)


def said(folder):
    run, series = read(folder)
    return " ".join([*moved(run, series), *helped(run)])


def with_rewards(folder, rewards, last):
    lines = read_lines(folder)
    for line in lines[1:]:
        line["global_reward"] = rewards
    lines[-1]["global"] = last
    write_lines(folder, lines)


def with_policies(folder, first, last, local=None):
    """A run whose first and last global (and local) probabilities are the given ones."""
    lines = read_lines(folder)[:2]
    for line, p in zip(lines, (first, last), strict=True):
        line["global"] = p
        line["local"] = {name: [0.25] * 4 for name in p}
    if local:
        lines[1]["local"] = dict.fromkeys(last, local)
    write_lines(folder, lines)


def with_losses(folder, before, after):
    data = json.loads((folder / "metrics.json").read_text())
    for key, nlls in (("eval_before", before), ("eval", after)):
        data[key] = {name: {"nll": nll, "perplexity": 1.0, "n": 4} for name, nll in nlls.items()}
    write_json(folder / "metrics.json", data | {"macro_nll": sum(after.values()) / len(after)})


@pytest.fixture
def two(tmp_path):
    return write_run(tmp_path / "two", {"math": 100, "chat": 300}, updates=2)


def test_the_datasets_that_rose_and_fell_are_named_with_their_shares(two):
    with_policies(two, {"math": 0.17, "chat": 0.83}, {"math": 0.29, "chat": 0.71})
    assert (
        "Over 1 update, math rose most, from 17.0 to 29.0% and chat fell most, from 83.0 to 71.0% of the rows"
        in said(two)
    )


def test_a_move_too_small_to_be_written_is_called_none(two):
    with_policies(two, {"math": 0.25, "chat": 0.75}, {"math": 0.2502, "chat": 0.7498})
    text = said(two)
    assert "the share of each dataset stayed as it was (none moved by more than 0.1 points)" in text
    assert "rose" not in text


def test_a_small_share_is_not_called_nothing(two):
    with_policies(two, {"math": 0.0013, "chat": 0.9987}, {"math": 0.15, "chat": 0.85})
    assert "from 0.13 to 15.00%" in said(two)


def test_a_group_that_gains_inside_the_error_of_its_rewards_is_not_named(two):
    half = {"math": 0.5, "chat": 0.5}
    with_policies(two, half, half, local=[0.24, 0.25, 0.25, 0.26])
    lines = read_lines(two)
    lines[1]["local_reward"] = {name: [1.0, 1.0, 1.0, 1.04] for name in half}
    for error, is_named in ((0.2, False), (0.005, True)):
        lines[1]["local_reward_se"] = {name: [error] * 4 for name in half}
        write_lines(two, lines)
        assert ("g4, the hardest, gained most" in said(two)) is is_named
        assert ("none gained beyond the error of its rewards" in said(two)) is not is_named
        assert ("no group's rewards differ" in " ".join(reasons(*read(two)))) is not is_named


def test_the_group_that_gained_is_named_and_the_largest_move_is_a_bound(two):
    half = {"math": 0.5, "chat": 0.5}
    with_policies(two, half, half, local=[0.2, 0.25, 0.25, 0.3])
    lines = read_lines(two)
    lines[1]["local_reward"] = lines[1]["local_reward_se"] = None
    write_lines(two, lines)
    text = said(two)
    assert "the share of each dataset stayed as it was" in text
    assert "g4, the hardest, gained most (on average from 25.0 to 30.0%)" in text
    assert "no group's share is more than 5.0 points from its start" in text


def test_frozen_probabilities_are_called_frozen(tmp_path):
    text = said(write_run(tmp_path / "static", static=True))
    assert "The probabilities stayed as they were at the start" in text
    assert "rose most" not in text


def test_one_dataset_has_only_groups_to_balance(tmp_path):
    assert "only the groups of math were balanced" in said(write_run(tmp_path / "one", {"math": 100}))


def test_ungrouped_datasets_are_said_to_be_so(tmp_path):
    assert "No dataset is cut into groups" in said(write_run(tmp_path / "flat", groups=1))


def test_before_the_first_update_nothing_is_claimed(tmp_path):
    folder = write_run(tmp_path / "start", updates=0)
    (folder / "metrics.json").unlink()
    assert (
        " ".join(moved(*read(folder)))
        == "No update has been made yet: rows are drawn with the probabilities of the start."
    )


def test_a_dataset_that_got_worse_is_named(two):
    with_losses(two, {"math": 3.0, "chat": 1.0}, {"math": 1.5, "chat": 1.25})
    text = said(two)
    assert (
        "lower in 1 of 2 datasets (math) and higher in 1 of 2 datasets (chat); on average it went from 2.00 to 1.38 (−31.2%)."
        in text
    )


def test_a_loss_that_rose_is_said_to_have_risen(two):
    with_losses(two, {"math": 1.0, "chat": 1.0}, {"math": 1.5, "chat": 1.5})
    assert "higher in both datasets; on average it went from 1.00 to 1.50 (+50.0%)." in said(two)


def test_without_a_measurement_before_no_change_is_claimed(two):
    with_losses(two, {}, {"math": 1.5, "chat": 1.5})
    assert "after training is 1.50; it wasn't measured before." in said(two)


def test_names_pass_through_the_callers_hand(two):
    sentences = moved(*read(two), show=lambda name: f"[{name}]")
    assert "[math]" in sentences[0]
    assert "[chat]" in sentences[0]


@pytest.fixture
def rewarded(two):
    with_rewards(two, {"math": 3.0, "chat": 2.0}, {"math": 0.4, "chat": 0.6})
    return two


def test_what_rose_is_explained_by_its_share_of_the_rewards(rewarded):
    said = " ".join(reasons(*read(rewarded)))
    assert "math had 60% of all rewards on average and began with 25% of the rows, so it rose" in said
    assert "chat had 40% of all rewards on average and began with 75% of the rows, so it fell" in said


def test_no_cause_is_claimed_where_the_mean_says_otherwise(rewarded):
    with_rewards(rewarded, {"math": 1.0, "chat": 9.0}, {"math": 0.4, "chat": 0.6})
    assert "so it" not in " ".join(reasons(*read(rewarded)))


def test_the_reward_is_put_in_words(rewarded):
    with (rewarded / "config.yaml").open("a") as file:
        file.write("  global_reward: gradient_norm\n  local_reward: perplexity_ratio\n")
    said = " ".join(reasons(*read(rewarded)))
    assert "Here the reward is the gradient norm" in said
    assert "For groups, it is the perplexity ratio" in said


def test_a_run_without_rewards_gives_no_reasons(tmp_path):
    folder = write_run(tmp_path / "static", static=True, updates=0)
    with (folder / "config.yaml").open("a") as file:
        file.write("  global_reward: null\n  local_reward: null\n")
    assert reasons(*read(folder)) == []
    assert "fixed under method uniform" in task(*read(folder))


def test_the_task_tells_of_datasets_groups_and_interval(run_folder):
    said = task(*read(run_folder))
    assert "fine-tuned on 4 datasets at once, each cut into 4 groups from easy to hard. After every 20 steps" in said


def test_the_name_of_a_dataset_is_never_read_as_a_part_of_the_sentence(tmp_path):
    run = read_run(write_run(tmp_path / "run", {"general": 100, "math": 100}))
    inside = reasons(run, series_of(run.lines))[1]
    assert ": in " not in inside
    assert any(f"g{j} of {name} had " in inside for j in range(1, 5) for name in run.datasets)
    assert "of that dataset's rewards on average" in inside
