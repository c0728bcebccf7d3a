"""Every method in a real trainer: it trains, leaves no trace by measuring, and resumes to the bit."""

from dataclasses import dataclass

import numpy as np
import pytest
from tiny_training import assert_same_weights, ledger, token_rows, weights

from hbo import METHODS, HBOConfig
from hbo.config.rewards import REWARDS, is_of_dataset, needs
from hbo.errors import ConfigError, DataError
from hbo.rewards import alignment
from hbo.training.balancing import parts_of

pytestmark = pytest.mark.filterwarnings("ignore:dataset .* about to be seen:UserWarning")

ROWS = {"sizes": (60, 40)}
each_method = pytest.mark.parametrize("method", METHODS)


def own(method, **more):
    """The method's own settings, with updates often enough for a short run."""
    return {"method": method, "probes": 4, "update_every": 2, "actor": {"learning_rate": 3e-3}, **more}


@each_method
def test_resume_is_bitwise(make_trainer, tmp_path, method):
    options = {"rows": token_rows(**ROWS), "balance": own(method), "save_strategy": "steps", "save_steps": 5}
    whole, _ = make_trainer(**options)
    whole.train()
    expected = weights(whole), ledger(tmp_path / "out")
    again, callback = make_trainer(**options)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    assert_same_weights(weights(again), expected[0])
    assert ledger(tmp_path / "out") == expected[1]
    last = expected[1][-1]
    assert sum(last["global"].values()) == pytest.approx(1, abs=1e-12)
    if not METHODS[method].is_static:
        assert len(expected[1]) == 7
        assert (last["global"], last["local"]) != (expected[1][0]["global"], expected[1][0]["local"])
        assert callback.balancer.skipped == 0


@pytest.mark.parametrize("reward", ["hbo", *filter(is_of_dataset, REWARDS)])
def test_measuring_leaves_no_trace_on_training(make_trainer, monkeypatch, reward):
    """Against a run in which nothing is measured, of the same draws."""
    chosen = {} if reward == "hbo" else {"global_reward": reward}
    frozen = {"actor": {"kind": "softmax", "learning_rate": 1e-300}, "min_probability": 0.0, **chosen}
    measured, callback = make_trainer("on", rows=token_rows(**ROWS), balance=own("hbo") | frozen, dropout=0.2)
    measured.train()
    assert len(callback.balancer.ledger) == 7
    monkeypatch.setattr("hbo.core.algorithm.HBO.is_due", lambda self, step: False)
    plain, callback = make_trainer("off", rows=token_rows(**ROWS), balance=own("hbo") | frozen, dropout=0.2)
    plain.train()
    assert len(callback.balancer.ledger) == 1
    assert_same_weights(weights(measured), weights(plain))


@pytest.mark.parametrize("reward", [name for name in REWARDS if "dev_rows" in needs(name)])
def test_rows_set_aside_are_never_trained_on(make_trainer, reward):
    trainer, callback = make_trainer(
        rows=token_rows(sizes=(40, 20)),
        balance=own("hbo", global_reward=reward, min_probability=0.2),
        max_steps=60,
    )
    seen = set()
    trainer.model.register_forward_pre_hook(
        lambda model, args, kwargs: (
            seen.update(map(tuple, kwargs["input_ids"][:, :2].tolist())) if model.training else None
        ),
        with_kwargs=True,
    )
    trainer.train()
    aside = callback.balancing.measurer.dev_K
    assert [len(rows) for rows in aside] == [4, 2]
    rows = trainer.train_dataset
    assert not seen & {tuple(rows[number]["input_ids"][:2]) for number in np.concatenate(aside).tolist()}
    assert len(seen) == 40 + 20 - 6
    assert callback.balancer.ledger[0].p_K == pytest.approx([36 / 54, 18 / 54])


@pytest.mark.parametrize(("size", "count"), [(300, 15), (120, 8), (6, 1)])
def test_a_twentieth_is_set_aside_or_eight_rows_and_never_more_than_a_tenth(make_trainer, size, count):
    rows = token_rows(sizes=(300, size))
    trainer, callback = make_trainer(rows=rows, balance=own("multiuat"))
    aside = parts_of(trainer, callback.config, callback.seed)[1].dev_K
    assert [len(rows) for rows in aside] == [15, count]


def test_a_dataset_of_one_row_has_none_to_set_aside(make_trainer):
    with pytest.raises(DataError, match="dataset 'b' has a single row.*entropy sets some rows"):
        make_trainer(rows=token_rows(sizes=(20, 1)), balance=own("multiuat"))


def test_mos_plus_moves_groups_across_datasets(make_trainer, tmp_path):
    """One actor: a group's gain is every other's loss, also outside of its dataset."""
    trainer, callback = make_trainer(rows=token_rows(**ROWS), balance=own("mos+"), learning_rate=3e-2)
    trainer.train()
    first, last = (ledger(tmp_path / "out")[at] for at in (0, -1))
    assert first["global"] == pytest.approx({"a": 0.6, "b": 0.4}, rel=1e-12)
    assert last["global"] != pytest.approx(first["global"], rel=1e-2)
    assert last["global_reward"] is None
    flat = callback.balancer.global_actor.policy
    assert len(flat) == 4
    shown = [last["global"][name] * q for name in "ab" for q in last["local"][name]]
    assert shown == pytest.approx(flat.tolist(), rel=1e-9)
    assert callback.balancer.local_actors == []


def test_mos_plus_goes_towards_transferability_too(make_trainer, tmp_path):
    balance = own("mos+", local_reward="transferability")
    trainer, _ = make_trainer(rows=token_rows(**ROWS), balance=balance)
    trainer.train()
    found = ledger(tmp_path / "out")[-1]["local_reward"]
    assert all(-1 <= value <= 1 for values in found.values() for value in values)


def test_a_reward_below_zero_pushes_down(make_trainer, tmp_path, monkeypatch):
    value = np.array([-0.5, 0.1])
    monkeypatch.setattr(alignment, "aligned", lambda *_: value)
    trainer, callback = make_trainer(rows=token_rows(**ROWS), balance=own("multidds"))
    trainer.train()
    records = ledger(tmp_path / "out")
    assert records[-1]["global"]["a"] < records[0]["global"]["a"] - 0.05
    assert callback.balancer.skipped == 0
    assert records[-1]["global_reward"] == {"a": -0.5, "b": 0.1}


@pytest.mark.parametrize(
    ("balance", "message"),
    [
        ({"method": "mos+", "global_reward": "loss"}, "one actor over all groups: leave 'global_reward' out"),
        ({"method": "multidds", "actor": {"kind": "tracking"}}, "may be negative, which actor tracking can't take"),
        ({"local_reward": "entropy"}, "local_reward is 'entropy', an unknown reward"),
        ({"global_reward": "entropi"}, "global_reward is 'entropi', an unknown reward.*entropy"),
        ({"method": "mos", "rewards": "stream"}, "global_reward transferability needs separate passes"),
        ({"method": "mos-"}, "unknown method.*mos"),
    ],
)
def test_what_does_not_fit_is_one_sentence(make_trainer, balance, message):
    with pytest.raises(ConfigError, match=message):
        make_trainer(rows=token_rows(**ROWS), balance=balance)


def test_a_methods_actor_keeps_its_kind_when_other_keys_are_given():
    assert HBOConfig(method="odm", actor={"ema": 0.9}).actor.kind == "odm"
    assert HBOConfig(method="odm", actor={"kind": "mlp"}).actor.kind == "mlp"


@dataclass
class Constant:
    """A reward that is equal to another of the same value, and so has no hash."""

    value: float

    def __call__(self, model, batch, *, loss, **context):
        return loss * 0 + self.value


def test_a_reward_on_either_level_need_not_be_hashable(make_trainer, tmp_path):
    trainer, _callback = make_trainer(balance={"global_reward": Constant(2.5), "local_reward": Constant(0.5)})
    trainer.train()
    last = ledger(tmp_path / "out")[-1]
    assert last["global_reward"] == {"a": 2.5, "b": 2.5}
    assert last["local_reward"]["a"] == [0.5, 0.5]
