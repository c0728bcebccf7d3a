"""Method annealed: the time is all that its reward says, and nothing is measured for it."""

import numpy as np
import pytest
from tiny_training import ledger, token_rows

from hbo import METHODS
from hbo.rewards.clock import elapsed
from hbo.rewards.measurer import Standing


def test_the_time_ends_at_one():
    drawn_KL = np.ones((2, 3), dtype=np.int64)
    assert elapsed(Standing(3, 12, drawn_KL)).tolist() == [0.25, 0.25]
    assert elapsed(Standing(15, 12, drawn_KL)).tolist() == [1.0, 1.0]


def test_the_shares_go_from_the_sizes_to_equal_ones_and_no_row_is_looked_at(make_trainer, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("something was measured")

    monkeypatch.setattr("hbo.rewards.probe.Probe.values", never)
    balance = {"method": "annealed", "update_every": 3}
    trainer, callback = make_trainer(rows=token_rows(sizes=(30, 10)), balance=balance)
    trainer.train()
    records = ledger(tmp_path / "out")
    assert METHODS["annealed"].is_static
    assert [record["step"] for record in records] == [0, 3, 6, 9, 12]
    for record in records:
        odds = record["global"]["a"] / record["global"]["b"]
        assert odds == pytest.approx(3 ** (1 - record["step"] / 12))
    assert callback.balancer.skipped == 0


def test_groups_may_have_a_reward_of_their_own_beside_it(make_trainer, tmp_path):
    balance = {"method": "annealed", "local_reward": "perplexity_ratio"}
    trainer, _ = make_trainer(rows=token_rows(sizes=(30, 10)), balance=balance)
    trainer.train()
    last = ledger(tmp_path / "out")[-1]
    assert last["global_reward"] == {"a": 1.0, "b": 1.0}
    assert all(value > 0 for values in last["local_reward"].values() for value in values)
    assert last["local"]["a"] != [0.5, 0.5]
