"""An interval for each level: the paper's Figure 4."""

import itertools

import pytest
from tiny_training import assert_same_weights, ledger, weights

from hbo.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:dataset .* about to be seen:UserWarning")
APART = {"update_every": {"global": 4, "local": 6}}


@pytest.mark.parametrize("reward", ["gradient_norm", "transferability", "entropy"])
def test_each_level_learns_when_it_is_due_and_only_then(make_trainer, tmp_path, reward):
    trainer, _ = make_trainer(balance={**APART, "global_reward": reward})
    trainer.train()
    records = ledger(tmp_path / "out")
    assert [record["step"] for record in records] == [0, 4, 6, 8, 12]
    for before, record in itertools.pairwise(records):
        for level, reward_of, every in (("global", "global_reward", 4), ("local", "local_reward", 6)):
            is_due = record["step"] % every == 0
            assert (record[reward_of] is not None) == is_due
            assert (record[level] != before[level]) == is_due


def test_the_level_left_out_keeps_the_default(make_trainer, tmp_path):
    trainer, _ = make_trainer(balance={"update_every": {"local": 5}})
    trainer.train()
    assert [record["step"] for record in ledger(tmp_path / "out")] == [0, 5, 10]


def test_resume_is_bitwise(make_trainer, tmp_path):
    options = {"balance": APART, "save_strategy": "steps", "save_steps": 5}
    whole, _ = make_trainer(**options)
    whole.train()
    expected = weights(whole), ledger(tmp_path / "out")
    again, _ = make_trainer(**options)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    assert_same_weights(weights(again), expected[0])
    assert ledger(tmp_path / "out") == expected[1]


@pytest.mark.parametrize(
    ("balance", "message"),
    [
        ({"update_every": {"globl": 4}}, "update_every: 'globl': 4 is no interval; write {global: 200, local: 400}"),
        ({"update_every": {"global": 0}}, "update_every: 'global': 0 is no interval"),
        ({"update_every": "often"}, "update_every.*'often'"),
        ({**APART, "rewards": "stream"}, "give 'update_every' one number"),
    ],
)
def test_what_is_no_interval_is_one_sentence(make_trainer, balance, message):
    with pytest.raises(ConfigError, match=message):
        make_trainer(balance=balance)
