"""When updates come, and what a resumed run may change of them."""

import itertools
import json

import pytest
from tiny_training import assert_same_weights, ledger, token_rows, weights

from hbo.errors import ConfigError, ResumeError
from hbo.training.schedule import Schedule

pytestmark = pytest.mark.filterwarnings("ignore:dataset .* about to be seen:UserWarning")
# An interval for each level, as in the paper's Figure 4.
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


def test_resume_with_an_interval_for_each_level_is_bitwise(make_trainer, tmp_path):
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
        (
            {"update_every": {"globl": 4}},
            "update_every: 'globl': 4 isn't a number of steps; write a number, or {global",
        ),
        ({"update_every": {"global": 0}}, "update_every: 'global': 0 isn't a number of steps"),
        ({"update_every": "often"}, "update_every.*'often'"),
        ({**APART, "rewards": "stream"}, "set 'update_every' to one number"),
    ],
)
def test_what_is_no_interval_is_one_sentence(make_trainer, balance, message):
    with pytest.raises(ConfigError, match=message):
        make_trainer(balance=balance)


def interrupted(make_trainer, **options):
    trainer, callback = make_trainer(max_steps=6, save_strategy="steps", save_steps=5, **options)
    trainer.train()
    return callback.balancer.p_K


def test_new_settings_open_a_recorded_stage_at_the_first_row_not_drawn(make_trainer, tmp_path):
    interrupted(make_trainer)
    trainer, callback = make_trainer(max_steps=12, balance={"update_every": 3, "min_probability": 0.2})
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    records = ledger(tmp_path / "out")
    assert [record["step"] for record in records] == [0, 2, 4, 5, 6, 9, 12]
    (stage,) = [record for record in records if "changed" in record]
    assert stage["changed"] == ["min_probability", "update_every"]
    assert stage["start"] == callback.balancing.schedule.position(5)
    assert stage["global_reward"] is None
    assert sum(map(sum, stage["drawn"].values())) == 4
    drawn = sum(sum(map(sum, record["drawn"].values())) for record in records)
    assert drawn == callback.balancing.schedule.position(12)
    assert min(min(q) for record in records[3:] for q in record["local"].values()) >= 0.2 - 1e-12


def test_new_weights_multiply_what_was_learned(make_trainer, tmp_path):
    interrupted(make_trainer)
    learned = ledger(tmp_path / "out")[2]["global"]  # step 4, the last before the checkpoint
    trainer, callback = make_trainer(max_steps=6)
    callback.weights = {"a": 1.0, "b": 1.0}
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    (stage,) = [record for record in ledger(tmp_path / "out") if "changed" in record]
    assert stage["changed"] == ["weights"]
    odds = learned["b"] / learned["a"] * (21 / 10)  # the prior was 21 : 10 and is 1 : 1
    assert stage["global"]["b"] / stage["global"]["a"] == pytest.approx(odds, rel=1e-9)


def test_the_same_settings_open_none(make_trainer, tmp_path):
    interrupted(make_trainer)
    trainer, _ = make_trainer(max_steps=12)
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    assert not [record for record in ledger(tmp_path / "out") if "changed" in record]


def test_changed_rows_another_actor_and_other_groups_are_refused_in_python_too(make_trainer, tmp_path):
    interrupted(make_trainer)
    checkpoint = str(tmp_path / "out" / "checkpoint-5")
    rows = token_rows()
    changed = rows.map(lambda row, i: {"labels": [*row["labels"][:-1], 7]} if i == 30 else row, with_indices=True)
    trainer, _ = make_trainer(rows=changed)
    with pytest.raises(ResumeError, match="dataset 'b' has changed"):
        trainer.train(resume_from_checkpoint=checkpoint)
    trainer, _ = make_trainer(balance={"actor": {"kind": "mlp"}})
    with pytest.raises(ResumeError, match="actor: .*softmax.* in the checkpoint, but .*mlp.* now"):
        trainer.train(resume_from_checkpoint=checkpoint)
    swapped = rows.map(lambda row, i: {"hbo_level": 1 - row["hbo_level"]} if i in (0, 1) else row, with_indices=True)
    trainer, _ = make_trainer(rows=swapped)
    with pytest.raises(ResumeError, match="other difficulty groups"):
        trainer.train(resume_from_checkpoint=checkpoint)


@pytest.mark.parametrize("reward", ["slope", "gain"])
def test_a_reward_with_a_past_cannot_begin_in_the_middle(make_trainer, tmp_path, reward):
    rows = token_rows(sizes=(60, 40))
    interrupted(make_trainer, rows=rows, balance={"global_reward": "dev_loss", "local_reward": None})
    trainer, _ = make_trainer(rows=rows, balance={"global_reward": reward, "local_reward": None})
    with pytest.raises(ResumeError, match="measured in another way.*begin a new run"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))


def test_a_trainer_that_is_measured_in_another_way_cannot_go_on(make_trainer, tmp_path):
    interrupted(make_trainer)
    checkpoint = tmp_path / "out" / "checkpoint-5"
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    rewards = state["stateful_callbacks"]["HBOState"]["attributes"]["snapshot"]["rewards"]
    del rewards["facts"], rewards["sizing"]  # as of a trainer with a loss of its own
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    trainer, _ = make_trainer()
    with pytest.raises(ResumeError, match="measured in another way.*begin a new run"):
        trainer.train(resume_from_checkpoint=str(checkpoint))


@pytest.mark.parametrize(("saved_at", "refused"), [(2, True), (3, False)])
def test_no_run_goes_on_where_its_trainer_would_leave_out_a_step(
    make_trainer, tmp_path, monkeypatch, saved_at, refused
):
    options = {
        "rows": token_rows(sizes=(20, 12)),  # 8 batches, so that every third step has two
        "gradient_accumulation_steps": 3,
        "max_steps": 7,
        "save_strategy": "steps",
        "save_steps": saved_at,
    }
    make_trainer(**options)[0].train()
    monkeypatch.setattr("hbo.training.callback.loses_last_step", lambda: True)  # as of transformers before 4.57
    again, _ = make_trainer(**options)
    checkpoint = str(tmp_path / "out" / f"checkpoint-{saved_at}")
    if refused:
        with pytest.raises(ResumeError, match=r"leaves out the epoch's last step.*4\.57"):
            again.train(resume_from_checkpoint=checkpoint)
    else:
        again.train(resume_from_checkpoint=checkpoint)
        assert again.state.global_step == 7


def test_an_epoch_is_cut_only_if_its_smaller_step_is_still_to_come():
    schedule = Schedule.of(batches=8, batch=4, accumulation=3)
    assert [schedule.is_cut(step, 7) for step in range(8)] == [False, True, True, False, True, True, False, False]
    assert not Schedule.of(batches=9, batch=4, accumulation=3).is_cut(1, 7)
