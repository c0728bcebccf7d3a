"""The paper's switches: each changes what it should, and training resumes to the bit with it."""

import json
import math

import numpy as np
import pytest
from commands import refused
from tiny_training import assert_same_weights, ledger, token_rows, weights

from hbo.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:dataset .* about to be seen:UserWarning")


@pytest.mark.parametrize(
    "balance",
    [
        {"global_reward": None},
        {"local_reward": None},
        {"global_reward": None, "local_reward": None},
        {"temperature": 10.0},
        {"temperature": math.inf},
        {"local_reward": "ifd_ratio"},
        {"local_reward": "loss_ratio"},
        {"global_reward": "batch_gradient_norm"},
        {"global_reward": "perplexity_ratio", "local_reward": "perplexity"},
    ],
)
def test_a_switch_trains_moves_what_it_should_and_resumes(make_trainer, tmp_path, balance):
    options = {"rows": token_rows((60, 40)), "balance": balance, "save_strategy": "steps", "save_steps": 5}
    whole, _ = make_trainer(**options)
    whole.train()
    expected = weights(whole), ledger(tmp_path / "out")
    again, _ = make_trainer(**options)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    assert_same_weights(weights(again), expected[0])
    assert ledger(tmp_path / "out") == expected[1]
    first, last = expected[1][0], expected[1][-1]
    share = 60 ** (1 / balance.get("temperature", 1)) / sum(n ** (1 / balance.get("temperature", 1)) for n in (60, 40))
    assert first["global"]["a"] == pytest.approx(share)
    assert (last["global"] != first["global"]) == (balance.get("global_reward", "") is not None)
    assert (last["local"] != first["local"]) == (balance.get("local_reward", "") is not None)


@pytest.mark.parametrize("levels", [1, 2, 4, 8, 16])
def test_any_number_of_groups_trains(make_trainer, tmp_path, levels):
    trainer, _ = make_trainer(rows=token_rows((60, 40), levels))
    trainer.train()
    records = ledger(tmp_path / "out")
    assert {len(q) for q in records[-1]["local"].values()} == {levels}
    assert (records[-1]["local"] == records[0]["local"]) == (levels == 1)


def test_a_cap_on_passes_holds_and_resumes_to_the_bit(make_trainer, tmp_path):
    # 18 steps of 4 rows want 72; without a cap those of b, of which there are 10, would be seen about 3 times.
    options = {
        "rows": token_rows((40, 10)),
        "balance": {"temperature": math.inf, "method": "hbo"},
        "max_passes": 2,
        "max_steps": 18,
        "save_strategy": "steps",
        "save_steps": 13,
    }
    whole, callback = make_trainer(**options)
    whole.train()
    stream = callback.balancer.stream
    times = np.bincount(stream.rows(0, 72), minlength=50)
    assert times[40:].tolist() == [2] * 10
    assert times.max() == 2
    expected = weights(whole), ledger(tmp_path / "out")
    drawn = sum(sum(counts) for record in expected[1] for counts in [record["drawn"]["b"]])
    assert drawn == 20
    again, _ = make_trainer(**options)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-13"))
    assert_same_weights(weights(again), expected[0])
    assert ledger(tmp_path / "out") == expected[1]


def test_a_cap_that_ends_before_training_is_refused(make_trainer):
    with pytest.raises(ConfigError, match="max_passes is 1, which allows 31 draws of 31 rows, but training takes 48"):
        make_trainer(max_passes=1)


def test_the_easiest_are_dropped_and_the_steps_kept(hbo, config, tmp_path):
    file = config(train={"max_steps": -1, "num_train_epochs": 2}, difficulty={"metric": "loss"})
    shown = hbo("train", file, "difficulty.drop_easiest=0.5", "--dry-run").stdout
    for share in ("0", "0.5"):
        done = hbo("train", file, f"difficulty.drop_easiest={share}", f"output={tmp_path / share}")
        assert done.returncode == 0, done.stderr
    whole, half = (json.loads((tmp_path / share / "metrics.json").read_text()) for share in ("0", "0.5"))
    assert whole["steps"] == half["steps"] == 2 * 19  # 76 rows, 4 at a time
    assert "38" in shown
    assert whole["sizes"] == {"a": [29, 28], "b": [10, 9]}
    assert half["sizes"] == {"a": [15, 14], "b": [5, 5]}


def test_a_share_of_the_data_is_used(hbo, config, tmp_path):
    sizes = {}
    for share in (0.2, 0.4):
        done = hbo("train", config(), f"mixture.train_fraction={share}", f"output={tmp_path / str(share)}")
        assert done.returncode == 0, done.stderr
        metrics = json.loads((tmp_path / str(share) / "metrics.json").read_text())
        sizes[share] = [sum(counts) for counts in metrics["sizes"].values()]
        assert {name: score["n"] for name, score in metrics["eval"].items()} == {"a": 3, "b": 1}
    assert sizes == {0.2: [11, 4], 0.4: [23, 8]}


@pytest.mark.parametrize(
    ("word", "fragments"),
    [
        ("mixture.max_passes=0", ["mixture.max_passes"]),
        ("mixture.max_passes=1.5", ["mixture.max_passes"]),
        ("mixture.train_fraction=0", ["mixture.train_fraction"]),
        ("mixture.train_fraction=1.1", ["mixture.train_fraction"]),
        ("difficulty.drop_easiest=1", ["difficulty.drop_easiest"]),
        ("difficulty.drop_easiest=0.95", ["max_passes is 3", "set it to 8"]),
        ("train.max_steps=200", ["max_passes is 3", "training takes 800", "set it to 11"]),
    ],
)
def test_what_cannot_work_is_one_sentence(hbo, config, word, fragments):
    done = hbo("train", config(mixture={"max_passes": 3}), word)
    refused(done, *fragments)
